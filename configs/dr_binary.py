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

    It splits by patient, crops the retina at 384 px and leaves its colours as they are, scales
    pixels as the backbone expects, freezes BatchNorm, shows the head finer features too, lets it
    learn alone at first, and selects the best average of weights by AUC.
    """
    config = config_files.load_beside(__file__, "eyepacs.py")

    recipe = config.dataset.recipe
    recipe.name, recipe.size, recipe.encoding = "retina", 384, "raw"
    recipe.quality_gate = "reject"

    split = config.dataset.split
    split.method, split.validation, split.test = "patient", 0.2, 0.0

    model = config.model
    model.backbone, model.weights = "MobileNetV2", "imagenet"
    model.trainable_layers, model.batch_norm = 50, "frozen"
    model.finer_features, model.hidden, model.dropout = (2,), (), (0.3,)

    training = config.training
    training.stages = ({"trainable_layers": 0, "learning_rate": 1e-3, "epochs": 4},)
    training.epochs, training.batch_size, training.learning_rate = 12, 16, 1e-4
    training.schedule, training.weight_average = "cosine", 0.7
    training.early_stopping_patience = 12

    augmentation = training.augmentation
    augmentation.horizontal_flip, augmentation.vertical_flip = True, True
    augmentation.rotation, augmentation.zoom = 0.1, 0.15
    augmentation.contrast, augmentation.brightness = 0.2, 0.2

    config.evaluation.views = ("identity", "left_right", "up_down", "left_right_up_down")
    return config
