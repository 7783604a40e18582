"""The published binary DR recipe, flaws included, as the yardstick.

Its flaws are kept on purpose. The two eyes of a patient may be in different splits. A backbone
trained on [-1, 1] gets [0, 1]. BatchNorm in the unfrozen layers learns with momentum .999. Batches
hold 10 images. The checkpoint is chosen by validation accuracy, which one class alone can win.

There are two deviations. Oversampling happens on the fly: the classes are 1:1 by count, as
published, but positives come in whole shuffled passes instead of draws with replacement.
Byte-identical files stay in one split: one of two changes places with another of its class, so that
all counts are as published.

    drtfx-build-examples --config=reference --image_dir=RAW --labels=RAW/labels.csv \
        --output_dir=DATA
    drtfx-train --config=reference --data_dir=DATA --workdir=RUN

Time and metric on EyePACS: not yet measured. On IDRiD: see README.md.
"""

import ml_collections

from dr_tfx.config import config_files


def get_config() -> ml_collections.ConfigDict:
    """Return the published recipe on EyePACS."""
    config = config_files.load_beside(__file__, "eyepacs.py")

    recipe = config.dataset.recipe
    recipe.name, recipe.size, recipe.encoding = "reference", 96, "raw"
    recipe.clip_limit, recipe.tiles, recipe.quality_gate = 2.0, 8, "count"

    split = config.dataset.split
    split.method, split.validation, split.test, split.seed = "image", 0.2, 0.0, 42
    split.strata = (0, 1, 1, 1, 1)

    model = config.model
    model.backbone, model.weights, model.from_scratch = "MobileNetV2", "imagenet", "as_pretrained"
    model.trainable_layers, model.batch_norm, model.input_scaling = 50, "trainable", "unit"
    model.hidden, model.dropout, model.head_batch_norm = (256, 128), (0.5, 0.3, 0.2), True

    training = config.training
    training.epochs, training.batch_size, training.learning_rate = 35, 10, 5e-4
    training.loss, training.focal_gamma, training.focal_alpha = "focal", 1.5, 0.5
    training.balance, training.mix = "oversample", "exact"
    training.select_by, training.early_stopping_monitor = "val_accuracy", "val_loss"
    training.early_stopping_patience = 10
    training.plateau_monitor, training.plateau_patience = "val_loss", 3
    training.plateau_factor = 0.5

    augmentation = training.augmentation
    augmentation.horizontal_flip, augmentation.vertical_flip = True, False
    augmentation.rotation, augmentation.zoom, augmentation.contrast = 0.1, 0.1, 0.1

    evaluation = config.evaluation
    evaluation.views = (
        "identity",
        "left_right",
        "up_down",
        "left_right_up_down",
        "brighter",
    )
    evaluation.threshold_rule, evaluation.threshold_grid = "accuracy", (0.30, 0.70, 0.01)
    return config
