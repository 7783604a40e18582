"""Every config is valid, every invalid one is refused by name, and R1's figures are R1's."""

import ast
import json
import re
from pathlib import Path

import pytest

from dr_tfx import tasks
from dr_tfx.config import specs, typed
from tests.helpers.configs import FOLDER, load

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(path.stem for path in FOLDER.glob("*.py"))


@pytest.mark.parametrize("name", CONFIGS)
def test_config_is_valid(name):
    assert isinstance(tasks.from_config(load(name)), specs.Experiment)


@pytest.mark.parametrize("name", CONFIGS)
def test_round_trip(name):
    experiment = tasks.from_config(load(name))
    plain = json.loads(json.dumps(typed.to_dict(experiment)))
    assert tasks.from_config(plain) == experiment


@pytest.mark.parametrize("name", CONFIGS)
def test_each_call_gives_a_config_of_its_own(name):
    first = load(name)
    first.training.epochs += 1
    assert load(name).training.epochs == first.training.epochs - 1


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "base"])
def test_config_says_how_to_run_it(name):
    source = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    doc = ast.get_docstring(ast.parse(source))
    assert "drtfx-" in doc, "the exact command"
    assert re.search(r"[Tt]ime", doc), "how long it takes, or 'not yet measured'"


def test_an_empty_config_is_the_default():
    assert tasks.from_config({}) == tasks.from_config(typed.to_dict(tasks.from_config({})))
    assert tasks.from_config(load("base")) == tasks.from_config({})


@pytest.mark.parametrize(
    ("names", "classes"), [(("no", "yes"), (0, 1)), (("none", "some", "much"), (0, 1, 1))]
)
@pytest.mark.parametrize("name", ["base", "dr_binary", "smoke"])
def test_the_class_of_a_label_and_its_stratum_follow_from_the_names(name, names, classes):
    config = load(name)
    config.dataset.label_names = names  # All that a person says of a CSV of 0 and 1.
    made = tasks.from_config(config)
    assert made.task.label_map == classes
    assert made.dataset.split.strata == ()  # The label itself.
    config.task.label_map = (1, 0, 0)[: len(names)]
    assert tasks.from_config(config).task.label_map == (1, 0, 0)[: len(names)]


INVALID = [
    # dotted key, value, words of the message
    ("dataset.sizes", 1, "config.dataset has no setting 'sizes'"),
    ("trainning", {}, "config has no setting 'trainning'"),
    ("dataset.recipe.colour", 1, "config.dataset.recipe has no setting 'colour'"),
    ("training.augmentation.flip", True, "config.training.augmentation has no setting 'flip'"),
    ("training", 3, "config.training is 3"),
    ("dataset.recipe", None, "config.dataset.recipe is None"),
    ("training.epochs", "3", "config.training.epochs is '3'"),
    ("training.epochs", 2.5, "config.training.epochs is 2.5"),
    ("training.epochs", True, "config.training.epochs is True"),
    ("training.epochs", None, "config.training.epochs is None"),
    ("training.learning_rate", "1e-3", "config.training.learning_rate is '1e-3'"),
    ("training.learning_rate", True, "config.training.learning_rate is True"),
    ("model.head_batch_norm", 1, "config.model.head_batch_norm is 1"),
    ("model.hidden", "64", "config.model.hidden is '64'"),
    ("model.hidden", 64, "config.model.hidden is 64"),
    ("model.hidden", (64, "x"), "config.model.hidden[1] is 'x'"),
    ("task.class_names", (0, 1), "config.task.class_names[0] is 0"),
    ("evaluation.threshold_grid", (0.1, 0.9), "config.evaluation.threshold_grid has 2 values"),
    ("dataset.recipe.name", "iris", "config.dataset.recipe.name is 'iris'"),
    ("dataset.recipe.encoding", "jpeg", "config.dataset.recipe.encoding is 'jpeg'"),
    ("dataset.recipe.quality_gate", True, "config.dataset.recipe.quality_gate is True"),
    ("dataset.split.method", "random", "config.dataset.split.method is 'random'"),
    ("task.kind", "softmax", "config.task.kind is 'softmax'"),
    ("task.kind", ["binary"], "config.task.kind is "),
    ("model.batch_norm", "thawed", "config.model.batch_norm is 'thawed'"),
    ("training.precision", "float16", "config.training.precision is 'float16'"),
    ("training.loss", "hinge", "config.training.loss is 'hinge'"),
    ("training.balance", "undersample", "config.training.balance is 'undersample'"),
    ("evaluation.threshold_rule", "best", "config.evaluation.threshold_rule is 'best'"),
    ("dataset.label_names", ("all",), "config.dataset.label_names is ('all',)"),
    ("dataset.recipe.size", 8, "config.dataset.recipe.size is 8"),
    ("dataset.recipe.size", 5000, "config.dataset.recipe.size is 5000"),
    ("dataset.recipe.clip_limit", 0.0, "config.dataset.recipe.clip_limit is 0.0"),
    ("dataset.recipe.tiles", 0, "config.dataset.recipe.tiles is 0"),
    ("dataset.split.validation", 0.0, "config.dataset.split.validation is 0.0"),
    ("dataset.split.validation", 1.0, "config.dataset.split.validation is 1.0"),
    ("dataset.split.test", -0.1, "config.dataset.split.test is -0.1"),
    ("dataset.split.test", 0.8, "config.dataset.split has validation=0.2 and test=0.8"),
    ("dataset.split.strata", (0, 1, 1), "config.dataset.split.strata has 3 values for 2"),
    ("dataset.shard_examples", 0, "config.dataset.shard_examples is 0; expected more than 0"),
    ("dataset.max_reject_rate", 1.5, "config.dataset.max_reject_rate is 1.5; expected 0 to 1"),
    ("dataset.patient_pattern", "(", "which is not a regular expression: missing )"),
    (
        "dataset.patient_pattern",
        "left|right",
        "patient_pattern is 'left|right'; expected a (group)",
    ),
    (
        "dataset.label_names",
        ("a", "b", "c"),
        "label_map has 2 values; expected one for each of the 3",
    ),
    ("task.class_names", ("a", "b", "c"), "config.task.class_names has 3 names"),
    ("task.label_map", (0, 0), "config.task.label_map is (0, 0)"),
    ("task.label_map", (0, 2), "config.task.label_map is (0, 2)"),
    ("task.label_map", (0, 1, 1), "config.task.label_map has 3 values"),
    ("model.dropout", (0.1, 0.2), "config.model.dropout has 2 values"),
    ("model.hidden", (64,), "config.model.dropout has 1 values"),
    ("model.dropout", (1.0,), "config.model.dropout[0] is 1.0"),
    ("model.trainable_layers", -2, "config.model.trainable_layers is -2"),
    ("model.weights", "", "config.model.weights is ''; expected imagenet, none, a run"),
    ("training.epochs", 0, "config.training.epochs is 0"),
    ("training.batch_size", 0, "config.training.batch_size is 0"),
    ("training.checkpoint_steps", 0, "config.training.checkpoint_steps is 0"),
    ("training.max_memory_gb", 0, "config.training.max_memory_gb is 0"),
    ("training.optimizer", "lion", "config.training.optimizer is 'lion'"),
    ("training.optimizer", "tfa.", "config.training.optimizer is 'tfa.'"),
    ("training.metrics", ("f1",), "config.training.metrics is 'f1'"),
    ("training.arguments", 1, "config.training.arguments is 1"),
    ("training.arguments", {"LAMB": {}}, "tfa.LAMB is not among"),
    ("training.label_weights", (1.0,), "config.training.label_weights is (1.0,); expected 2"),
    ("training.class_weights", (1.0, -1.0), "config.training.class_weights is (1.0, -1.0)"),
    ("training.class_weights", (1.0, 2.0), "2 times over, by drawing (balance), class_weights"),
    ("training.focal_alpha", 0.75, "2 times over, by drawing (balance), focal_alpha"),
    ("training.anneal_epochs", -1, "config.training.anneal_epochs is -1; expected 0 or more"),
    ("training.mix", "even", "config.training.mix is 'even'"),
    ("training.learning_rate", 0.0, "config.training.learning_rate is 0"),
    ("training.focal_gamma", -1.0, "config.training.focal_gamma is -1.0"),
    ("training.focal_alpha", 1.0, "config.training.focal_alpha is 1.0"),
    ("training.plateau_factor", 1.0, "config.training.plateau_factor is 1.0"),
    ("training.augmentation.rotation", 1.0, "config.training.augmentation.rotation is 1.0"),
    ("training.augmentation.brightness", -0.1, "config.training.augmentation.brightness is -0.1"),
    ("training.select_by", "accuracy", "config.training.select_by is 'accuracy'"),
    ("training.plateau_monitor", "loss", "config.training.plateau_monitor is 'loss'"),
    ("evaluation.threshold_grid", (0.9, 0.1, 0.01), "config.evaluation.threshold_grid is (0.9,"),
    ("evaluation.threshold_grid", (0.1, 0.9, 0.0), "config.evaluation.threshold_grid is (0.1,"),
    ("evaluation.min_sensitivity", (0.9, 1.1), "config.evaluation.min_sensitivity[1] is 1.1"),
    ("evaluation.min_sensitivity", (0.9, 0.9), "config.evaluation.min_sensitivity is (0.9, 0.9)"),
    ("evaluation.min_specificity", (0.0,), "config.evaluation.min_specificity[0] is 0.0"),
    ("evaluation.min_specificity", 0.9, "config.evaluation.min_specificity is 0.9"),
    ("evaluation.views", (), "config.evaluation.views is (); expected a sequence that begins"),
    ("evaluation.views", ("up_down", "identity"), "config.evaluation.views"),
    ("evaluation.views", ("identity", "rotate_45"), "config.evaluation.views[1] is 'rotate_45'"),
    (
        "evaluation.views",
        ("identity", "rotate_180", "left_right_up_down"),
        "expected only one of rotate_180 and left_right_up_down",
    ),
    ("evaluation.views", ("identity",) * 2, "expected each view once"),
    ("evaluation.combine", "median", "config.evaluation.combine is 'median'"),
    ("evaluation.batch_size", 0, "config.evaluation.batch_size is 0"),
    # 512 MiB hold 3,566 pictures of 224 x 224 pixels with three bytes each.
    ("evaluation.batch_size", 3567, "batch_size is 3,567; expected 3,566 at most, for pictures"),
    ("evaluation.batch_size", 10**12, "is 1,000,000,000,000; expected 3,566 at most"),
    ("evaluation.bootstrap_resamples", 10**12, "expected 100 to 100,000"),
    ("dataset.recipe.tiles", 10**9, "config.dataset.recipe.tiles is 1000000000; expected 1 to 64"),
    (
        "evaluation.bootstrap_resamples",
        10,
        "config.evaluation.bootstrap_resamples is 10; expected 100",
    ),
]


@pytest.mark.parametrize(
    ("key", "value", "words"), INVALID, ids=[f"{k}={v!r}" for k, v, _ in INVALID]
)
def test_invalid_setting_is_refused_by_name(key, value, words):
    config = typed.to_dict(tasks.from_config({}))
    group = config
    *path, last = key.split(".")
    for name in path:
        group = group[name]
    group[last] = value
    with pytest.raises(typed.ConfigError, match=re.escape(words)):
        tasks.from_config(config)


def test_a_rule_needs_its_bound():
    evaluation = {"threshold_rule": "min_sensitivity", "min_sensitivity": ()}
    with pytest.raises(typed.ConfigError, match="config.evaluation.min_sensitivity is empty"):
        tasks.from_config({"evaluation": evaluation})


def test_the_weight_in_the_focal_loss_of_tensorflow_addons_is_a_correction_too():
    def training(alpha):
        arguments = {"SigmoidFocalCrossEntropy": alpha} if alpha else {}
        loss = "tfa.SigmoidFocalCrossEntropy"
        return {"training": {"loss": loss, "arguments": arguments, "balance": "oversample"}}

    for alpha in ({}, {"alpha": 0.75}):  # It weighs by .25 unless it is told otherwise.
        with pytest.raises(typed.ConfigError, match=r"2 times over, .*balance.*, focal_alpha"):
            tasks.from_config(training(alpha))
    assert tasks.from_config(training({"alpha": 0.5})).training.balance == "oversample"


def test_a_whole_number_is_a_float_but_not_the_reverse():
    assert tasks.from_config({"training": {"learning_rate": 1}}).training.learning_rate == 1.0
    with pytest.raises(typed.ConfigError):
        tasks.from_config({"training": {"batch_size": 10.0}})


def test_a_flag_cannot_add_a_setting():
    config = load("base").lock()
    with pytest.raises((AttributeError, KeyError)):
        config.training.epoch = 3


# The published recipe, written out from its description, not from the config.
R1 = {
    "dataset.recipe.name": "reference",
    "dataset.recipe.size": 96,
    "dataset.recipe.clip_limit": 2.0,
    "dataset.recipe.tiles": 8,
    "dataset.recipe.quality_gate": "count",
    "dataset.split.method": "image",
    "dataset.split.validation": 0.2,
    "dataset.split.test": 0.0,
    "dataset.split.seed": 42,
    "dataset.split.strata": (0, 1, 1, 1, 1),
    "dataset.image_column": "image",
    "dataset.label_column": "level",
    "task.kind": "binary",
    "task.label_map": (0, 1, 1, 1, 1),
    "task.class_names": ("normal", "abnormal"),
    "model.backbone": "MobileNetV2",
    "model.weights": "imagenet",
    "model.trainable_layers": 50,
    "model.batch_norm": "trainable",
    "model.input_scaling": "unit",
    "model.hidden": (256, 128),
    "model.dropout": (0.5, 0.3, 0.2),
    "model.head_batch_norm": True,
    "model.from_scratch": "as_pretrained",
    "training.loss": "focal",
    "training.focal_gamma": 1.5,
    "training.focal_alpha": 0.5,
    "training.optimizer": "adam",
    "training.learning_rate": 5e-4,
    "training.batch_size": 10,
    "training.epochs": 35,
    "training.balance": "oversample",
    "training.mix": "exact",
    "training.early_stopping_patience": 10,
    "training.plateau_factor": 0.5,
    "training.plateau_patience": 3,
    "training.select_by": "val_accuracy",
    "training.augmentation.horizontal_flip": True,
    "training.augmentation.vertical_flip": False,
    "training.augmentation.rotation": 0.1,
    "training.augmentation.zoom": 0.1,
    "training.augmentation.contrast": 0.1,
    "training.augmentation.brightness": 0.0,
    "evaluation.views": (
        "identity",
        "left_right",
        "up_down",
        "left_right_up_down",
        "brighter",
    ),
    "evaluation.threshold_rule": "accuracy",
    "evaluation.threshold_grid": (0.30, 0.70, 0.01),
}


@pytest.mark.parametrize(("key", "value"), R1.items(), ids=list(R1))
def test_reference_is_r1(key, value):
    setting = tasks.from_config(load("reference"))
    for name in key.split("."):
        setting = getattr(setting, name)
    assert setting == value


def test_our_recipe_mends_what_r1_breaks():
    ours = tasks.from_config(load("dr_binary"))
    assert ours.dataset.split.method == "patient"
    assert ours.dataset.recipe.name == "retina"
    assert ours.dataset.recipe.quality_gate == "reject"
    assert ours.model.input_scaling == "backbone"
    assert ours.model.batch_norm == "frozen"
    assert ours.training.select_by == "val_auc"
    assert ours.task == tasks.from_config(load("reference")).task


def test_one_build_serves_the_binary_task_and_the_grades():
    binary, grades = (tasks.from_config(load(name)) for name in ("dr_binary", "dr_grade"))
    assert grades.dataset == binary.dataset
    assert len(tasks.of(grades).data.groups) == len(grades.dataset.label_names) == 5
    assert grades.training.select_by == "val_kappa"


def test_the_reference_of_grades_is_the_plain_reading_of_its_description():
    plain = tasks.from_config(load("dr_grade_reference"))
    assert plain.model.backbone == "ResNet50" and plain.model.weights == "imagenet"
    assert plain.task.head == "softmax" and plain.evaluation.decide == "most_probable"
    assert plain.dataset.split.method == "image"
    assert plain.dataset.label_names == tasks.from_config(load("reference")).dataset.label_names


@pytest.mark.parametrize("name", ["reference", "dr_binary", "dr_grade", "smoke"])
def test_eyes_of_one_patient_are_recognised(name):
    pattern = re.compile(tasks.from_config(load(name)).dataset.patient_pattern)
    assert pattern.match("10_left").group(1) == pattern.match("10_right").group(1) == "10"


def test_the_library_knows_no_task():
    """A task is a config, never a branch. Synthetic photographs and the demo are of one kind."""
    files = [*(ROOT / "dr_tfx").rglob("*.py"), *(ROOT / "beam_jobs").rglob("*.py")]
    assert len(files) > 100
    # Words that people write above their columns are guessed at, whatever the task.
    shown = {"synthetic", "synthesize.py", "demo.py", "guess_columns.py"}
    for path in files:
        code = re.sub(r'""".*?"""|#[^\n]*', "", path.read_text(encoding="utf-8"), flags=re.S)
        assert not re.search(r"task\.name\s*(==|!=|in\b)|dataset\.name\s*(==|!=|in\b)", code), path
        if not shown & set(path.parts):
            found = re.search(r"(?i)retinopathy|eyepacs|idrid|glaucoma|referable|\bDR\b", code)
            assert not found, f"{path}: {found.group()}"


def test_the_reference_of_head_ct_is_the_published_recipe():
    ct = tasks.from_config(load("ct_hemorrhage_reference"))
    assert (ct.model.backbone, ct.dataset.recipe.size) == ("ResNet50", 128)
    (head,) = ct.training.stages
    assert (head.trainable_layers, head.epochs, ct.training.epochs) == (0, 5, 25)
    assert head.learning_rate == ct.training.learning_rate == 1e-4
    assert ct.training.optimizer == "adam" and ct.model.input_scaling == "backbone"
    normal, ill = ct.training.class_weights
    assert normal == 1 and 1.3 <= ill <= 1.5
    changes = ct.training.augmentation
    assert (changes.shift, changes.zoom) == (0.15, 0.2)
    assert changes.rotation * 360 == pytest.approx(20)
    # Six of six pictures: the interval of Clopper and Pearson begins at the sixth root of .025.
    doc = (FOLDER / "ct_hemorrhage_reference.py").read_text(encoding="utf-8")
    assert f"{100 * 0.025 ** (1 / 6):.0f} to 100 %" in doc.replace("\n", " ")


def test_head_ct_has_one_data_set_and_six_labels():
    binary, kinds = (tasks.from_config(load(name)) for name in ("ct_hemorrhage", "ct_kinds"))
    assert kinds.dataset.recipe == binary.dataset.recipe
    assert binary.dataset.recipe.windows == ((40, 80), (80, 200), (600, 2800))
    for name in ("ct_hemorrhage", "ct_kinds"):
        beside = tasks.from_config(load(name, "neighbours")).dataset.recipe
        assert (beside.name, beside.windows[2]) == ("ct_neighbours", (40, 80))
        with pytest.raises(ValueError, match=f"{name}.py has no variant 'neighbors'"):
            load(name, "neighbors")
    data = tasks.of(kinds).data
    assert len(data.group_of) == 64 and sum(data.group_of) == 63
    assert tasks.of(kinds).weights * 7 == pytest.approx([2, 1, 1, 1, 1, 1])
