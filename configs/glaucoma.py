"""Glaucoma from the optic disc, on whole photographs or on crops of the disc.

    drtfx-build-examples --config=glaucoma --image_dir=RAW --labels=RAW/labels.csv \
        --output_dir=DATA
    drtfx-crossvalidate --config=glaucoma --data_dir=DATA --workdir=RUN

A few hundred photographs have none to spare for a test, so that they are dealt to five folds, of
which each is tested once. The label is a column `glaucoma`, 0 or 1; docs/guides/glaucoma.md has the
flags for published sets. The names of patients are those of drtfx-synthesize; say how yours are
told by dataset.patient_column or dataset.patient_pattern.

`--config=glaucoma:demo` is the same without pre-trained weights and folds, smaller and
shorter, for drtfx-demo.

Time and metric: not yet measured on real photographs; on drawn ones see docs/guides/glaucoma.md.
"""

import ml_collections

from dr_tfx.config import config_files


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """Return transfer to the surroundings of the optic disc, cross-validated.

    Args:
      variant: "", or `demo` for drawn photographs without pre-trained weights.
    """
    config = config_files.load_beside(__file__, "base.py")

    dataset = config.dataset
    dataset.label_column = "glaucoma"
    dataset.label_names = ("normal", "glaucoma")
    dataset.patient_pattern = r"^(\d+)_"
    dataset.recipe.name, dataset.recipe.size = "disc", 160
    dataset.split.folds, dataset.shard_examples = 5, 128

    config.task.name, config.task.class_names = "glaucoma", dataset.label_names

    model = config.model
    model.backbone, model.weights = "MobileNetV2", "imagenet"
    model.trainable_layers, model.batch_norm = 100, "frozen"
    model.hidden, model.dropout = (), (0.3,)

    training = config.training
    training.epochs, training.batch_size, training.learning_rate = 25, 16, 2e-4
    training.loss, training.balance = "cross_entropy", "oversample"
    training.early_stopping_patience, training.plateau_patience = 10, 4
    training.plateau_monitor = "val_auc"

    augmentation = training.augmentation
    augmentation.horizontal_flip, augmentation.vertical_flip = True, True
    augmentation.rotation, augmentation.zoom = 0.1, 0.1
    augmentation.contrast, augmentation.brightness = 0.1, 0.1

    config.evaluation.views = ("identity", "left_right", "up_down", "left_right_up_down")
    if variant == "demo":
        _for_demo(config)
    return config


def _for_demo(config: ml_collections.ConfigDict) -> None:
    """Change the recipe to one that learns from some hundred eyes without weights, in minutes."""
    config.dataset.name = "drawn photographs"
    config.dataset.recipe.size, config.dataset.split.folds = 48, 0
    config.dataset.shard_examples = 64
    model = config.model
    model.backbone, model.weights, model.output_stride = "SixConvolutions", "none", 4
    training = config.training
    training.epochs, training.learning_rate = 12, 1e-3
    training.plateau_patience, training.plateau_factor = 3, 0.3
    training.augmentation.rotation, training.augmentation.zoom = 0.02, 0.05
