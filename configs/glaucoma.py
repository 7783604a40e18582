"""Glaucoma from the optic disc, on whole photographs or on crops of the disc.

A set of a few hundred photographs has none to spare for a test, so that it is dealt to five folds.
The label is a column `glaucoma`, 0 or 1; docs/guides/glaucoma.md has the flags for published sets.

    drtfx-build-examples --config=configs/glaucoma.py --image_dir=RAW --labels=RAW/labels.csv \
        --output_dir=DATA
    drtfx-crossvalidate --config=configs/glaucoma.py --data_dir=DATA --workdir=RUN

Time and metric on real photographs: not yet measured.
"""

import ml_collections

from dr_tfx.config import config_files


def get_config() -> ml_collections.ConfigDict:
    """Return transfer to the surroundings of the optic disc, cross-validated."""
    config = config_files.load_beside(__file__, "base.py")

    dataset = config.dataset
    dataset.name, dataset.label_column = "glaucoma", "glaucoma"
    dataset.label_names = ("normal", "glaucoma")
    dataset.recipe.name, dataset.recipe.size = "disc", 160
    dataset.split.folds, dataset.shard_examples = 5, 128

    config.task.name, config.task.class_names = "glaucoma", ("normal", "glaucoma")

    model = config.model
    model.backbone, model.weights, model.output_stride = "MobileNetV2", "imagenet", 32
    model.trainable_layers, model.batch_norm = -1, "frozen"
    model.hidden, model.dropout = (), (0.3,)

    training = config.training
    training.epochs, training.batch_size, training.learning_rate = 20, 16, 2e-4
    training.loss, training.balance = "cross_entropy", "oversample"
    training.early_stopping_patience, training.plateau_patience = 8, 3
    training.plateau_monitor = "val_auc"

    augmentation = training.augmentation
    augmentation.horizontal_flip, augmentation.vertical_flip = True, True
    augmentation.rotation, augmentation.zoom = 0.1, 0.1
    augmentation.contrast, augmentation.brightness = 0.1, 0.1

    config.evaluation.views = ("identity", "left_right", "up_down", "left_right_up_down")
    return config
