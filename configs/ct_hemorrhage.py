"""Haemorrhage on slices of head CT by our recipe: any bleed against none.

    drtfx-build-examples --config=ct_hemorrhage --image_dir=RAW --labels=RAW/labels.csv \
        --output_dir=DATA
    drtfx-train --config=ct_hemorrhage --data_dir=DATA --workdir=RUN
    drtfx-evaluate --workdir=RUN --data_dir=DATA --split=validation

RAW holds DICOM slices, which are seen through the windows of brain, subdural space and bone, or
pictures of slices, whose grey stands for all three. The names of patients are those of
drtfx-synthesize; say how yours are told by dataset.patient_column or dataset.patient_pattern.

`--config=ct_hemorrhage:neighbours` shows the slices beside a slice in place of the window of bone:
blue is the mean of the slice before and the slice after it in its series, through the window of
the brain. Noise differs between slices, and a bleed seldom ends within one. RAW then holds whole
series of DICOM files, and so does whatever the model is given later: a slice that is given alone
stands in for its neighbours.

`--config=ct_hemorrhage:demo` is the same without pre-trained weights, smaller and
shorter, for drtfx-demo; `:demo_neighbours` is that with neighbours.

Time and metric: see docs/results.
"""

import ml_collections

from dr_tfx.config import config_files


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """Return the recipe.

    Args:
      variant: "" for a slice through three windows; `neighbours` for one through two, and the
        slices beside it; `demo` and `demo_neighbours` for drawn slices without pre-trained weights.

    Raises:
      ValueError: there is no such variant.
    """
    variants = ("", "neighbours", "demo", "demo_neighbours")
    if variant not in variants:
        raise ValueError(
            f"ct_hemorrhage.py has no variant {variant!r}; expected one of {list(variants)}"
        )
    config = config_files.load_beside(__file__, "base.py")

    dataset = config.dataset
    dataset.label_column = "any"
    dataset.label_names = ("no haemorrhage", "haemorrhage")
    dataset.patient_pattern = r"^(P\d+)_"
    recipe = dataset.recipe
    recipe.name, recipe.size, recipe.quality_gate = "ct_windows", 128, "off"

    config.task.name, config.task.class_names = "ct_hemorrhage", dataset.label_names

    model = config.model
    model.backbone, model.weights = "MobileNetV2", "imagenet"
    model.trainable_layers, model.batch_norm = -1, "frozen"
    # A bleed of few pixels is lost in the last features; docs/results has what finer ones add.
    model.finer_features, model.hidden, model.dropout = (2,), (), (0.3,)

    training = config.training
    # The random head learns alone at first: all layers at once unlearn what they knew.
    training.stages = ({"trainable_layers": 0, "learning_rate": 1e-3, "epochs": 5},)
    training.epochs, training.batch_size, training.learning_rate = 30, 16, 1e-4
    training.loss, training.balance = "cross_entropy", "oversample"
    training.early_stopping_patience, training.plateau_patience = 10, 6
    # The AUC of a few dozen validation pictures is 1 long before the model has learned.
    training.select_by, training.early_stopping_monitor = "val_loss", "val_loss"

    # Brightness means something here: it tells blood from brain, and is left as it is.
    augmentation = training.augmentation
    augmentation.horizontal_flip = True
    augmentation.rotation, augmentation.zoom = 0.05, 0.1

    config.evaluation.views = ("identity", "left_right")
    if variant.endswith("neighbours"):
        recipe.name, recipe.windows = "ct_neighbours", ((40, 80), (80, 200), (40, 80))
    if variant.startswith("demo"):
        _for_demo(config)
    return config


def _for_demo(config: ml_collections.ConfigDict) -> None:
    """Change the recipe to one that learns from some hundred slices without weights, in minutes."""
    config.dataset.name = "drawn head CT"
    config.dataset.recipe.size, config.dataset.shard_examples = 64, 64
    config.model.backbone, config.model.weights = "SixConvolutions", "none"
    config.model.finer_features, config.model.output_stride = (), 4
    training = config.training
    training.stages, training.epochs, training.learning_rate = (), 8, 1e-3
    training.select_by, training.early_stopping_monitor = "val_auc", "val_auc"
    training.plateau_patience, training.plateau_factor = 3, 0.3
