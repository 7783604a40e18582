"""Binary DR screening by our recipe: grade 0 against grades 1 to 4.

    drtfx-build-examples --config=dr_binary --image_dir=RAW --labels=RAW/labels.csv \
        --output_dir=DATA
    drtfx-train --config=dr_binary --data_dir=DATA --workdir=RUN
    drtfx-evaluate --workdir=RUN --data_dir=DATA --split=validation

Time and metric on EyePACS: not yet measured. On IDRiD: see README.md.
"""

import ml_collections

from dr_tfx.config import config_files


def get_config() -> ml_collections.ConfigDict:
    """Return a recipe without the flaws of reference.py.

    It splits by patient, crops the retina at 224 px, scales pixels as the backbone expects, freezes
    BatchNorm, and selects the best epoch by AUC.
    """
    config = config_files.load_beside(__file__, "eyepacs.py")

    recipe = config.dataset.recipe
    recipe.name, recipe.size, recipe.encoding = "fundus", 224, "raw"
    recipe.quality_gate = "reject"

    split = config.dataset.split
    split.method, split.validation, split.test = "patient", 0.2, 0.0

    model = config.model
    model.backbone, model.weights = "MobileNetV2", "imagenet"
    model.trainable_layers, model.batch_norm = 50, "frozen"
    model.hidden, model.dropout = (), (0.3,)

    training = config.training
    training.epochs, training.batch_size, training.learning_rate = 25, 16, 2e-4
    training.early_stopping_patience, training.plateau_patience = 8, 4
    training.plateau_monitor = "val_auc"

    augmentation = training.augmentation
    augmentation.horizontal_flip, augmentation.vertical_flip = True, True
    augmentation.rotation, augmentation.zoom = 0.1, 0.1
    augmentation.contrast, augmentation.brightness = 0.1, 0.1

    config.evaluation.views = ("identity", "left_right", "up_down", "left_right_up_down")
    return config
