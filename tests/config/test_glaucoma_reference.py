"""R3's figures are those of one answer for all, and its mistakes cannot be made here.

What its program did wrong is done here alone, on labels and bytes that are made up. Of its labels
the counts are known: 724 of 1,020 are normal, 567 among the first 800.
"""

import cv2
import numpy as np
import pytest

from beam_jobs.build_examples import planning
from dr_tfx import tasks
from dr_tfx.config import config_files, typed
from dr_tfx.preprocessing import recipes
from dr_tfx.tasks.binary import collapse
from dr_tfx.training import alarms
from tests.helpers.configs import FOLDER, load
from tests.helpers.places import Named

EXPERIMENT = tasks.from_config(load("glaucoma_reference"))
TRAIN, BATCH = 800, 50


def with_normal(*parts: tuple[int, int]) -> np.ndarray:
    """Return labels, 1 for ill, of parts (photographs, how many of them are normal)."""
    return np.concatenate([np.repeat([0, 1], [normal, n - normal]) for n, normal in parts])


LABELS = with_normal((50, 39), (750, 528), (50, 37), (150, 114), (20, 6))


def test_the_published_figures_are_those_of_always_answering_normal():
    train, test = LABELS[:TRAIN], LABELS[TRAIN:]
    assert ((train[:BATCH] == 0).sum(), (test[:BATCH] == 0).sum()) == (39, 37)
    assert (np.mean(train[:BATCH] == 0), np.mean(test[:BATCH] == 0)) == (0.78, 0.74)
    # It scored whole batches alone, four of them, and divided by all photographs.
    scored = test[: len(test) // BATCH * BATCH]
    assert (len(scored), (scored == 0).sum()) == (200, 151)
    assert 151 / len(test) == pytest.approx(0.6864, abs=5e-5)
    assert np.mean(test == 0) == 157 / 220 == pytest.approx(0.7136, abs=5e-5)


def test_the_collapse_is_called_by_epoch_3_with_the_true_majority():
    images, names = np.bincount(LABELS[TRAIN:]), EXPERIMENT.task.class_names
    epoch = {"val_loss": 0.6, "val_auc": 0.5, "val_accuracy": 157 / 220, collapse.SHARE: 0.0}
    said = [
        alarms.changes(
            [epoch] * n, lambda row: collapse.wrong_with(row, images, names), collapse.OVER
        )
        for n in (1, 2, 3)
    ]
    assert said[:2] == [[], []]
    words = " ".join(said[2])
    assert "100.0 % of the validation images are called 'normal'" in words
    assert "yet only 71.36 % are" in words
    assert "clearly above 71.36 %, which always saying 'normal' reaches" in words
    assert "not above what guessing gives" in words


def test_pictures_are_joined_with_labels_by_name_and_not_by_listing(tmp_path):
    names = [f"image_{n}.jpg" for n in range(len(LABELS))]
    rng = np.random.default_rng(0)
    labels = rng.permutation(LABELS)
    listed = sorted(names)  # image_0, image_1, image_10, ...
    # R3 gave the first row's label to the first picture of the listing.
    mistaken = dict(zip(listed, labels, strict=True))
    right = dict(zip(names, labels, strict=True))
    kept = np.mean([mistaken[name] == right[name] for name in names])
    chance = np.mean(labels == 0) ** 2 + np.mean(labels == 1) ** 2
    assert kept == pytest.approx(chance, abs=0.03)
    splits = ["train"] * TRAIN + ["validation"] * (len(names) - TRAIN)
    rows = zip(names, labels, splits, strict=True)
    text = "\n".join(["imageID,binaryLabels,split", *(",".join(map(str, row)) for row in rows)])
    (tmp_path / "split.csv").write_text(text)
    plan = planning.make_plan(
        EXPERIMENT.dataset, labels=str(tmp_path / "split.csv"), source=Named(listed)
    )
    assert dict(zip(plan.rows["name"], plan.rows["label"], strict=True)) == right
    assert (plan.rows["split"] == "train").sum() == TRAIN


def test_names_that_cannot_be_joined_are_refused(tmp_path):
    rows = [f"{n},{n % 2},{('train', 'validation')[n % 3 == 0]}" for n in range(20)]
    (tmp_path / "split.csv").write_text("\n".join(["imageID,binaryLabels,split", *rows]))
    with pytest.raises(ValueError, match="no photograph in .* belongs to a row of"):
        planning.make_plan(
            EXPERIMENT.dataset,
            labels=str(tmp_path / "split.csv"),
            source=Named([f"photo-{n}.jpg" for n in range(20)]),
        )


def test_bytes_of_a_picture_are_read_in_the_order_in_which_they_were_written():
    size = EXPERIMENT.dataset.recipe.size
    red = np.full((size, size, 3), (200, 40, 10), np.uint8)
    # R3 took rows of (height, width, channel) for whole channels: each has stripes of all three.
    misread = np.frombuffer(red.tobytes(), np.uint8).reshape(3, size, size)
    assert [np.unique(channel).tolist() for channel in misread] == [[10, 40, 200]] * 3
    data = cv2.imencode(".png", red[..., ::-1])[1].tobytes()
    assert np.array_equal(recipes.apply_recipe(data, EXPERIMENT.dataset.recipe).rgb, red)


def test_no_dropout_follows_the_logits():
    """R3 dropped logits: with one of two gone, the answer of softmax is another one at random."""
    model = EXPERIMENT.model
    assert len(model.dropout) == len(model.hidden) + 1  # One before each dense layer, none behind.
    assert model.dropout[-1] == 0.5
    logits = np.array([3.0, -3.0])
    kept = np.array([[1, 1], [1, 0], [0, 1], [0, 0]]) * 2  # Inverted dropout of .5.
    odds = np.exp(logits * kept)
    said = odds[:, 0] / odds.sum(axis=1)
    assert (said > 0.95).tolist() == [True, True, True, False] and said[3] == 0.5


R3 = {
    "dataset.recipe.name": "plain",
    "dataset.recipe.size": 64,
    "dataset.split.method": "column",
    "model.backbone": "PlainConvolutions",
    "model.pooling": "flatten",
    "model.input_scaling": "unit",
    "model.weights": "none",
    "model.hidden": (50,),
    "training.loss": "cross_entropy",
    "training.optimizer": "adam",
    "training.learning_rate": 1e-3,
    "training.batch_size": 50,
    "training.epochs": 20,
    "training.balance": "none",
    "evaluation.threshold_grid": (0.5, 0.5, 0.01),
}


@pytest.mark.parametrize(("key", "value"), R3.items(), ids=list(R3))
def test_reference_is_r3(key, value):
    setting = EXPERIMENT
    for name in key.split("."):
        setting = getattr(setting, name)
    assert setting == value


def test_nothing_is_augmented_and_the_learning_rate_stays():
    training = EXPERIMENT.training
    assert not any(typed.to_dict(training.augmentation).values())
    assert training.plateau_patience >= training.epochs <= training.early_stopping_patience


def test_our_recipe_mends_what_r3_breaks():
    ours = tasks.from_config(load("glaucoma"))
    assert ours.dataset.recipe.name == "disc" and ours.dataset.split.folds == 5
    assert ours.model.weights == "imagenet" and ours.model.input_scaling == "backbone"
    assert ours.training.balance == "oversample" and ours.training.select_by == "val_auc"
    drawn = tasks.from_config(config_files.load(FOLDER / "glaucoma.py", "demo"))
    assert drawn.model.weights == "none" and drawn.dataset.split.folds == 0
    assert drawn.dataset.recipe.name == "disc" and drawn.task == ours.task
