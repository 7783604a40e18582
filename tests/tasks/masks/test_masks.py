"""The kind `masks`: what is learned, counted and judged, against values computed otherwise."""

import dataclasses
import re

import cv2
import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from matplotlib.figure import Figure
from scipy import ndimage, stats
from sklearn.metrics import average_precision_score, f1_score

from dr_tfx import tasks
from dr_tfx.config import typed
from dr_tfx.evaluation import gallery
from dr_tfx.inference import scoring
from dr_tfx.models import bundles, network, precision
from dr_tfx.statistics import pixel_counts
from dr_tfx.statistics.intervals import PatientBootstrap
from dr_tfx.tasks.judging import ComparedRun
from dr_tfx.tasks.masks import report_figures, scores
from dr_tfx.tasks.masks.fitting import MasksFitted
from dr_tfx.tasks.masks.summary import LesionCounts
from tests.statistics.test_lesion_counts import by_scipy

SIZE, LESIONS = 32, ("MA", "EX")


def experiment(views=("identity",), model=None, task=None, **dataset):
    return tasks.from_config(
        {
            "dataset": {
                "label_column": "lesions",
                "masks": LESIONS,
                "recipe": {"size": SIZE},
                **dataset,
            },
            "task": {"kind": "masks", "width": 2, **(task or {})},
            "model": {"backbone": "UNetEncoder", "weights": "none", "output_stride": 16}
            | (model or {}),
            "training": {
                "loss": "dice_cross_entropy",
                "select_by": "val_aupr",
                "early_stopping_monitor": "val_aupr",
            },
            "evaluation": {"views": views, "bootstrap_resamples": 100},
        }
    )


KIND = tasks.of(experiment())


def photographs(count: int = 12, seed: int = 0, unknown: tuple[int, ...] = (3,)):
    """Records' features and maps of probability in whole steps that rank pixels well.

    Of the photographs `unknown`, nobody knows about EX.
    """
    rng = np.random.default_rng(seed)
    masks = rng.choice([0, 0, 0, 0, 0, 0, 127, 254], (2, count, SIZE, SIZE, 1)).astype(np.uint8)
    share = np.moveaxis(masks[..., 0] / 254, 0, -1)
    masks[1, list(unknown)] = 255
    maps = np.round(np.clip(0.4 * share + rng.uniform(0, 0.6, share.shape), 0, 0.99), 2)
    labels = np.ones(count, np.int64)
    return {"label/lesions": labels, "mask/MA": masks[0], "mask/EX": masks[1]}, maps


def table(features, maps, kind=KIND) -> pd.DataFrame:
    told = kind.data.truth(features) | kind.scores.columns(maps)
    names = [f"p{i:02d}" for i in range(len(maps))]
    found = pd.DataFrame(told | kind.scores.compared(features, maps))
    found = kind.judgement.checked(found.assign(id=names, patient=names))
    return found.assign(cluster=names)


def fine(features, maps, lesion, known):
    """Truth and probability with every pixel as two halves, as half a cover is half a pixel."""
    share = features[f"mask/{lesion}"][known, ..., 0] / 254
    truth = np.stack([share >= 0.4, share > 0.6])
    return truth.ravel(), np.stack([maps[known, ..., LESIONS.index(lesion)]] * 2).ravel()


def test_figures_are_those_of_scikit_learn():
    features, maps = photographs()
    predictions = table(features, maps)
    fitted = KIND.judgement.fit(predictions, split="validation")
    told = KIND.judgement.summarise(predictions, fitted, patients_known=False)
    known = {"MA": np.ones(12, bool), "EX": np.arange(12) != 3}
    values = []
    for row in told["lesions"]:
        truth, probability = fine(features, maps, row["name"], known[row["name"]])
        aupr = average_precision_score(truth, probability)
        assert row["aupr"]["value"] == pytest.approx(aupr, abs=1e-4)
        dice = [f1_score(truth, probability >= step / 100) for step in range(1, 100)]
        assert row["dice"]["value"] == pytest.approx(max(dice), abs=1e-4)
        assert dice[round(100 * row["threshold"]) - 1] == pytest.approx(max(dice), abs=1e-4)
        assert row["share"] == pytest.approx(truth.mean(), abs=1e-4)
        assert row["aupr"]["low"] < row["aupr"]["value"] < row["aupr"]["high"]
        marked = (probability >= row["threshold"]).reshape(2, -1, SIZE * SIZE).mean(axis=(0, 2))
        assert row["area"]["marked"] == pytest.approx(marked.mean(), abs=1e-6)
        values.append(aupr)
    assert [row["images"] for row in told["lesions"]] == [12, 11]
    assert told["figures"]["aupr"]["value"] == pytest.approx(np.mean(values), abs=1e-4)
    assert len(told["most_wrong"]) == 8 and told["most_wrong"][0]["dice"] < 1
    assert told["alarms"] == ["Too few images to conclude: 12 'MA' images; 11 'EX' images."]
    pixels, marks, _ = KIND.judgement.figures(predictions, told)
    truth, probability = fine(features, maps, "EX", known["EX"])
    tips = [t.text for t in pixels.tips if t.text.startswith("EX from a probability of 0.3")]
    for tip in tips:
        limit, precision, recall = map(float, re.findall(r"\d\.\d+", tip))
        assert precision == pytest.approx((truth[probability >= limit]).mean(), abs=1e-3)
        assert recall == pytest.approx((probability[truth] >= limit).mean(), abs=1e-3)
    assert tips and any(": share of lesions found " in tip.text for tip in marks.tips)


def test_single_lesions_are_those_of_scipy_at_the_threshold():
    features, maps = photographs()
    predictions = table(features, maps)
    fitted = MasksFitted("validation", {"MA": 0.55, "EX": 0.5})
    told = KIND.judgement.summarise(predictions, fitted, patients_known=False)
    for row, limit in zip(told["lesions"], (0.55, 0.5), strict=True):
        parts = found = false = 0
        known = [i for i in range(12) if (row["name"], i) != ("EX", 3)]
        for i in known:
            truth = features[f"mask/{row['name']}"][i, ..., 0] > 0
            here = by_scipy(truth, maps[i, ..., LESIONS.index(row["name"])] >= limit - 1e-9)
            parts += ndimage.label(truth, np.ones((3, 3)))[1]
            found, false = found + here[0], false + here[1]
        assert row["parts"] == parts and false > 0
        assert row["sensitivity"]["value"] == pytest.approx(found / parts)
        assert row["false_marks"]["value"] == pytest.approx(false / len(known))
        assert 0 <= row["froc"]["low"] <= row["froc"]["value"] <= row["froc"]["high"] <= 1


def test_lesions_all_found_are_not_certain_to_be_found():
    features, maps = photographs()
    features["mask/MA"][3:] = 0  # Three photographs are left that have some.
    predictions = table(features, maps)
    found = [float(text.split()[0]) for text in predictions["found/MA"]]
    fitted = MasksFitted("validation", {"MA": 0.01, "EX": 0.5})
    maps[..., 0] = np.where(features["mask/MA"][..., 0] > 0, 0.9, 0.0)
    row, other = KIND.judgement.summarise(table(features, maps), fitted, patients_known=False)[
        "lesions"
    ]
    assert row["sensitivity"]["value"] == 1 and sum(found) == row["parts"] > 3
    assert row["sensitivity"]["high"] == 1
    # Wilson's interval of 3 of 3: 3 / (3 + z^2).
    assert row["sensitivity"]["low"] == pytest.approx(3 / (3 + 1.959964**2), abs=1e-6)
    assert other["sensitivity"]["low"] < other["sensitivity"]["value"] < 1


def test_what_is_read_tells_the_areas_and_what_was_decided():
    features, maps = photographs()
    predictions = table(features, maps)
    fitted = MasksFitted("validation", {"MA": 0.3, "EX": 0.99})
    readings = KIND.scores.read(predictions, fitted)
    marked = (maps >= [0.3, 0.99]).sum(axis=(1, 2))
    for reading, (some, few) in zip(readings, marked, strict=True):
        assert reading.answer["area_MA"] == pytest.approx(some / SIZE**2)
        assert tuple(reading.answer) == KIND.scores.answer_names
        assert reading.decision == f"MA {some}" + f" EX {few}" * bool(few)
    decided = predictions.assign(decision=[reading.decision for reading in readings])
    step = scores.steps_decided(decided, "EX")
    again = [(maps[i, ..., 1] >= s / 100).sum() for i, s in enumerate(step)]
    assert again == marked[:, 1].tolist()
    nothing = KIND.scores.read(table(features, 0 * maps), fitted)[0]
    assert nothing.decision == "no lesion" and nothing.is_suspected is False
    assert readings[0].is_suspected is True


def test_areas_agree_as_numpy_and_scipy_say():
    features, maps = photographs()
    predictions = table(features, maps)
    fitted = MasksFitted("validation", {"MA": 0.55, "EX": 0.7})
    told = KIND.judgement.summarise(predictions, fitted, patients_known=False)
    known = {"MA": np.ones(12, bool), "EX": np.arange(12) != 3}
    for row, (name, limit) in zip(told["lesions"], fitted.thresholds.items(), strict=True):
        share = features[f"mask/{name}"][known[name], ..., 0] / 254
        truth = share.mean(axis=(1, 2))
        marked = (maps[known[name], ..., LESIONS.index(name)] >= limit - 1e-9).mean(axis=(1, 2))
        difference = marked - truth
        spread = 1.959964 * np.std(difference, ddof=1)
        area = row["area"]
        assert area["difference"]["value"] == pytest.approx(difference.mean(), abs=1e-5)
        assert area["difference"]["low"] < difference.mean() < area["difference"]["high"]
        assert area["low"] == pytest.approx(difference.mean() - spread, abs=1e-5)
        assert area["high"] == pytest.approx(difference.mean() + spread, abs=1e-5)
        assert area["correlation"] == pytest.approx(stats.spearmanr(truth, marked).statistic)


@pytest.mark.parametrize(
    ("marked", "alarm"), [(0.0, "empty"), (0.01, None), (0.9, "full"), (None, None)]
)
def test_maps_that_are_empty_or_full_are_called_so_while_training(marked, alarm):
    row = {"val_loss": 0.3} | ({} if marked is None else {"val_marked": marked})
    said = KIND.judgement.wrong_with(row, [12])
    assert list(said) == ([alarm] if alarm else [])
    assert set(said) <= set(KIND.judgement.alarm_over)
    if alarm == "full":
        assert said["full"].startswith("90.0 % of the validation pixels are marked")


def test_maps_that_say_nothing_raise_alarms():
    features, maps = photographs()
    fitted = MasksFitted("validation", {"MA": 0.5, "EX": 0.5})

    def alarms(maps, features=features):
        told = KIND.judgement.summarise(table(features, maps), fitted, patients_known=True)
        return " ".join(told["alarms"])

    assert "marked as 'MA': the maps are empty" in alarms(maps * [0, 1])
    full = alarms(np.maximum(maps, [0.6, 0]))
    assert "100.0 % of all pixels are marked as 'MA'" in full and "'EX': the" not in full
    noise = np.random.default_rng(5).uniform(size=maps.shape)
    assert "The AUPR of 'EX'" in alarms(noise)
    none = {**features, "mask/EX": np.full_like(features["mask/EX"], 255)}
    assert "Of no image it is known whether it has 'EX'" in alarms(maps, none)
    none = {**features, "mask/EX": np.zeros_like(features["mask/EX"])}
    assert "No image has 'EX'" in alarms(maps, none)


def test_differences_are_those_of_the_figures(tmp_path):
    features, maps = photographs()
    runs = []
    for name, given in (("a", maps), ("b", np.round(maps**2, 2))):
        predictions = table(features, given)
        fitted = KIND.judgement.fit(predictions, split="validation")
        told = KIND.judgement.summarise(predictions, fitted, patients_known=True)
        readings = KIND.scores.read(predictions, fitted)
        predictions = predictions.assign(decision=[one.decision for one in readings])
        told["selection"] = KIND.judgement.chosen(fitted)
        runs.append(ComparedRun(name, tmp_path, {}, told, predictions))
    comparison = KIND.judgement.comparison
    difference = comparison.differences(runs[1], runs[0])
    first, second = (comparison.figures_of(run.summary) for run in runs)
    bootstrap = PatientBootstrap(runs[0].predictions["cluster"], resamples=100)
    measured = comparison.measured(runs[0].predictions, bootstrap)
    for measure in comparison.MEASURES:
        expected = second[measure.key]["value"] - first[measure.key]["value"]
        assert difference[measure.key]["value"] == pytest.approx(expected, abs=1e-9)
        assert measured[measure.key]["value"] == pytest.approx(first[measure.key]["value"])


@pytest.mark.parametrize(
    ("loss", "missed"), [("dice_cross_entropy", 0.5), ("dice_focal", 0.5), ("dice_focal", 0.7)]
)
def test_the_loss_is_cross_entropy_and_dice_of_known_pixels(loss, missed):
    features, maps = photographs(2, unknown=(1,))
    maps = np.clip(maps, 0.01, None).astype(np.float32)
    targets, weights = KIND.model.encode({k: tf.constant(v) for k, v in features.items()})
    assert weights.numpy().tolist() == [1, 1]
    training = dataclasses.replace(KIND.experiment.training, focal_gamma=2.0, focal_alpha=0.7)
    kind = tasks.of(experiment(task={"lesion_weights": (1.0, 3.0), "missed": missed}))
    found = float(kind.model.losses[loss](training)(targets, tf.constant(maps)))
    expected = np.zeros((2, 2))
    alpha, gamma = (0.7, 2) if loss == "dice_focal" else (0.5, 0)
    for i in range(2):
        for k, lesion in enumerate(LESIONS):
            s, p = features[f"mask/{lesion}"][i, ..., 0] / 254, maps[i, ..., k].astype(float)
            if (i, lesion) == (1, "EX"):
                continue
            entropy = -2 * (alpha * s * np.log(p) + (1 - alpha) * (1 - s) * np.log(1 - p))
            dice = (2 * (s * p).sum() + 1) / (s.sum() + p.sum() + 1)
            if missed == 0.7:  # Of Tversky: 7 of a missed pixel for 3 of a false one.
                hit, lost, false = (x.sum() for x in (s * p, s * (1 - p), (1 - s) * p))
                dice = (hit + 0.5) / (hit + 0.7 * lost + 0.3 * false + 0.5)
            expected[i, k] = (entropy * abs(s - p) ** gamma).mean() + 1 - dice
    assert found == pytest.approx((expected @ [0.25, 0.75]).mean(), rel=1e-4)


def test_deep_supervision_adds_the_mean_loss_of_coarser_maps_and_changes_no_figure():
    features, maps = photographs(3, unknown=(1,))
    maps = np.clip(maps, 0.01, None).astype(np.float32)
    rng = np.random.default_rng(6)
    coarser = [rng.uniform(0.05, 0.95, maps.shape).astype(np.float32) for _ in range(2)]
    pictures = rng.integers(0, 256, (3, SIZE, SIZE, 3)).astype(np.uint8)
    drawn = rng.random((3, SIZE, SIZE, 3)).astype(np.float32)
    kind = tasks.of(experiment(task={"reconstruction": 1.0, "deep_supervision": 0.4}))
    given = {k: tf.constant(v) for k, v in (features | {"image": pictures}).items()}
    targets, _ = kind.model.encode(given)
    plain, _ = KIND.model.encode(given)

    def loss(of, wanted, found):
        made = of.model.losses["dice_cross_entropy"](of.experiment.training)
        return float(made(wanted, tf.constant(found)))

    every = np.concatenate([maps, drawn, *coarser], axis=-1)
    missed = np.abs(pictures / 255 - drawn).mean()
    of_coarser = np.mean([loss(KIND, plain, found) for found in coarser])
    expected = loss(KIND, plain, maps) + missed + 0.4 * of_coarser
    assert loss(kind, targets, every) == pytest.approx(expected, rel=1e-5)
    pd.testing.assert_frame_equal(table(features, every, kind), table(features, maps))

    model = network.build(kind.experiment, load_weights=False)
    assert model.output_shape == (None, SIZE, SIZE, 3 * len(LESIONS) + 3)
    found = model(tf.constant(pictures, tf.float32)).numpy()
    # A map of a quarter of the resolution is smooth: second differences within a step vanish.
    rows = found[0, 4:-4, 4:-4, len(LESIONS) + 3]
    bends = np.abs(np.diff(rows, n=2, axis=0))
    assert (np.sort(bends.max(axis=1))[: len(bends) // 4] < 1e-6).all()


def test_a_second_decoder_draws_the_photograph_and_changes_no_figure():
    features, maps = photographs(3, unknown=(1,))
    rng = np.random.default_rng(5)
    pictures = rng.integers(0, 256, (3, SIZE, SIZE, 3)).astype(np.uint8)
    drawn = rng.random((3, SIZE, SIZE, 3)).astype(np.float32)
    maps = np.clip(maps, 0.01, None).astype(np.float32)
    both = np.concatenate([maps, drawn], axis=-1)
    kind = tasks.of(experiment(task={"reconstruction": 2.0}))
    given = {k: tf.constant(v) for k, v in (features | {"image": pictures}).items()}
    targets, _ = kind.model.encode(given)
    plain, _ = KIND.model.encode(given)
    losses = [
        float(of.model.losses["dice_focal"](of.experiment.training)(wanted, tf.constant(found)))
        for of, wanted, found in ((kind, targets, both), (KIND, plain, maps))
    ]
    missed = np.abs(pictures / 255 - drawn).mean()
    assert losses[0] == pytest.approx(losses[1] + 2 * missed, rel=1e-5)
    for name in ("aupr", "marked"):
        figures = []
        for wanted, found in ((targets, both), (plain, maps)):
            metric = kind.model.metrics[name]()
            metric.update_state(wanted, tf.constant(found))
            figures.append(float(metric.result()))
        assert figures[0] == figures[1]
    pd.testing.assert_frame_equal(table(features, both, kind), table(features, maps))
    fitted = MasksFitted("validation", dict.fromkeys(LESIONS, 0.3))
    outlined = [kind.scores.outlined(features, found, fitted)[1] for found in (both, maps)]
    assert np.array_equal(*outlined)

    # Nothing but the smallest features reaches it: it cannot copy.
    model = network.build(kind.experiment, load_weights=False)
    assert model.output_shape == (None, SIZE, SIZE, 5)
    behind, ahead = {"photograph"}, [model.get_layer("photograph")]
    while ahead:
        for node in ahead.pop()._inbound_nodes:
            for parent in node.parent_nodes:
                layer = getattr(parent, "operation", None) or parent.layer
                if layer.name not in behind:
                    behind.add(layer.name)
                    ahead.append(layer)
    assert "head_dropout" in behind
    assert not any(name.startswith(("joined_", "decoder_conv_1")) for name in behind)


def test_in_16_bits_the_maps_and_their_loss_are_float32_and_nearly_the_same():
    """With both decoders and the maps on the way, of the same weights."""
    both = {"reconstruction": 1.0, "deep_supervision": 0.4}
    kind = tasks.of(experiment(task=both, model={"dropout": (0.0,)}))
    features, _ = photographs(2, unknown=(1,))
    pictures = np.random.default_rng(7).integers(0, 256, (2, SIZE, SIZE, 3)).astype(np.uint8)
    given = {k: tf.constant(v) for k, v in (features | {"image": pictures}).items()}
    targets, _ = kind.model.encode(given)
    made = kind.model.losses["dice_focal"](kind.experiment.training)
    keras.utils.set_random_seed(3)
    maps, losses, weights = [], [], None
    try:
        for policy in ("float32", "mixed_float16"):
            precision.set_policy(policy)
            model = network.build(kind.experiment, load_weights=False)
            weights = weights or model.get_weights()
            model.set_weights(weights)
            found = model(tf.constant(pictures, tf.float32), training=True)
            assert found.dtype == tf.float32 and found.shape[-1] == 3 * len(LESIONS) + 3
            maps.append(found.numpy())
            losses.append(float(made(targets, found)))
        assert model.get_layer("decoder_conv_1a").compute_dtype == "float16"
    finally:
        precision.set_policy("float32")
    assert np.ptp(maps[0][..., : len(LESIONS)]) > 0.01 and np.isfinite(losses).all()
    np.testing.assert_allclose(maps[1], maps[0], atol=0.04)  # A mantissa has 11 bits.
    assert np.abs(maps[1] - maps[0]).mean() < 0.003
    assert losses[1] == pytest.approx(losses[0], rel=0.01)


def test_the_metric_is_the_mean_area_over_all_batches():
    metric = KIND.model.metrics["aupr"]()
    for seed in (9, 0, 1):
        if seed == 0:
            metric.reset_state()
        features, maps = photographs(6, seed)
        targets, _ = KIND.model.encode({k: tf.constant(v) for k, v in features.items()})
        # In the middle of its step, which float32 cannot miss.
        metric.update_state(targets, tf.constant(maps + 0.005, tf.float32))
    parts = [photographs(6, seed) for seed in (0, 1)]
    features = {name: np.concatenate([part[0][name] for part in parts]) for name in parts[0][0]}
    maps = np.concatenate([part[1] for part in parts])
    known = {"MA": np.ones(12, bool), "EX": ~np.isin(np.arange(12), [3, 9])}
    expected = [
        average_precision_score(*fine(features, maps, name, known[name])) for name in LESIONS
    ]
    assert float(metric.result()) == pytest.approx(np.mean(expected), abs=1e-4)
    metric.reset_state()
    maps = (maps**4 / 40 + np.random.default_rng(2).uniform(0, 1e-3, maps.shape)).astype(np.float32)
    targets, _ = KIND.model.encode({k: tf.constant(v) for k, v in features.items()})
    metric.update_state(targets, tf.constant(maps))
    of_evaluation = KIND.judgement.areas_under_curves(table(features, maps))
    assert float(metric.result()) == pytest.approx(np.mean([*of_evaluation.values()]), abs=1e-4)


@pytest.mark.parametrize("backbone", ["UNetEncoder", "MobileNetV2", "ResNet50V2"])
def test_any_backbone_gives_maps_of_the_pictures_size(backbone):
    stride = 16 if backbone == "UNetEncoder" else 32
    made = experiment(model={"backbone": backbone, "output_stride": stride}, recipe={"size": 64})
    model = network.build(made, load_weights=False)
    assert model.output_shape == (None, 64, 64, 2) and model.count_params() > 0
    joined = [layer for layer in model.layers if layer.name.startswith("joined_")]
    assert len(joined) == {16: 4, 32: 5}[stride]


def test_a_size_that_cannot_be_halved_is_refused():
    with pytest.raises(ValueError, match="Set a multiple of 32"):
        network.build(experiment(recipe={"size": 40}), load_weights=False)


def of_colours(made) -> bundles.Bundle:
    """A model whose maps are red and green."""
    pixels = keras.Input((SIZE, SIZE, 3))
    colours = keras.layers.Conv2D(2, 1, use_bias=False, name="score")
    model = keras.Model(pixels, colours(pixels))
    colours.set_weights([np.eye(3)[np.newaxis, np.newaxis, :, :2] / 255])
    return bundles.Bundle(
        folder=None,
        model=model,
        experiment=made,
        manifest=None,
        fitted=None,
        best_epoch=1,
        precision="float32",
        libraries={},
    )


def test_the_report_outlines_the_truth_on_the_one_side_and_the_marks_on_the_other():
    """The truth of MA, whose outlines are orange, is on the left; it is marked on the right."""
    picture, mask = (
        np.full((1, SIZE, SIZE, 3), 60, np.uint8),
        np.zeros((1, SIZE, SIZE, 1), np.uint8),
    )
    picture[0, 10:20, 20:28, 0] = 250
    mask[0, 10:20, 4:12] = 254
    read = {"image": picture, "mask/MA": mask, "mask/EX": 0 * mask}
    fitted = MasksFitted("validation", dict.fromkeys(LESIONS, 0.5))
    bundle = of_colours(experiment())
    (shown,) = gallery.gallery_images(bundle, lambda numbers: read, np.array([0]), ["eye"], fitted)
    for side, (at, elsewhere) in ((shown.photograph, "LR"), (shown.overlay, "RL")):
        rgb = cv2.imdecode(np.frombuffer(side, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)
        is_orange = rgb[..., 0] - rgb[..., 2] > 60
        halves = dict(zip("LR", np.hsplit(is_orange, 2), strict=True))
        assert halves[at].sum() > 100 and not halves[elsewhere].any()


def test_maps_are_moved_back_before_they_are_combined():
    """A model whose maps are the colours themselves: every view tells the same."""
    views = (
        "identity",
        "left_right",
        "up_down",
        "rotate_90",
        "rotate_270",
        "rotate_10",
        "zoom_out",
    )
    made = experiment(views)
    images = np.zeros((2, SIZE, SIZE, 3), np.uint8)
    ramp = np.linspace(0, 200, SIZE)
    images[..., 0], images[..., 1] = ramp, (ramp[:, None] + ramp) / 2
    bundle = of_colours(made)
    maps = scoring.view_scorer(bundle)(tf.constant(images)).numpy()
    assert maps.shape == (2, SIZE, SIZE, 2) and maps.dtype == np.float32
    middle = slice(4, -4)
    expected = images[..., :2] / 255
    np.testing.assert_allclose(maps[:, middle, middle], expected[:, middle, middle], atol=0.01)
    # What a view does not show is not taken for 0.
    np.testing.assert_allclose(maps, expected, atol=0.05)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"masks": ()}, r"config\.dataset\.masks is \(\)"),
        ({"task": {"lesion_weights": (1.0,)}}, "lesion_weights has 1 values; expected one for eac"),
        ({"model": {"hidden": (8,), "dropout": (0.1, 0.1)}}, r"config\.model\.hidden is \(8,\)"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(change, told):
    with pytest.raises(typed.ConfigError, match=told):
        experiment(**change)


def test_bands_of_curves_hold_the_curve_and_narrow_with_more_photographs():
    """Four times the patients make a band half as wide; each curve is that of `curve`."""
    widths = []
    for count in (24, 96):
        features, maps = photographs(count, unknown=())
        predictions = table(features, maps)
        counts = LesionCounts(predictions, "EX", 50)
        row = {"name": "EX", "images_with": count, "threshold": 0.5, "aupr": {"value": 0.5}}
        axis = Figure().add_subplot()
        bootstrap = PatientBootstrap(predictions["patient"], resamples=200)
        report_figures._precision_recall(axis, [row], [counts], bootstrap)
        corners = pd.DataFrame(axis.collections[0].get_paths()[0].vertices, columns=["x", "y"])
        ends = corners.round({"x": 4}).groupby("x")["y"].agg(["min", "max"])
        low, high = ends.to_numpy().T
        recall, precision = pixel_counts.curve(counts.lesion.sum(axis=0), counts.other.sum(axis=0))
        here = np.interp(np.linspace(0, 1, 101), recall, np.nan_to_num(precision, nan=1.0))
        assert ((low <= here + 1e-9) & (here <= high + 1e-9)).mean() > 0.95
        widths.append((high - low)[20:80].mean())
    assert widths[1] == pytest.approx(widths[0] / 2, rel=0.25)
