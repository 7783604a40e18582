"""A backbone learns from photographs without labels, to begin a task from (SimCLR).

    drtfx-build-examples --config=pretrain --image_dir=RAW --labels=none --output_dir=DATA
    drtfx-pretrain --data_dir=DATA --workdir=RUN
    drtfx-train --config=lesions --data_dir=OTHER_DATA --workdir=TASK \
        --config.model.weights=RUN

Any data set will do, whose labels are not read. Time: 15 epochs of 413 photographs take 640 CPU
seconds; what they bring stands in docs/results/index.md.
"""

import ml_collections

from dr_tfx.config import config_files


def get_config() -> ml_collections.ConfigDict:
    """Return a recipe for two cores: ImageNet's weights go on with photographs of one's own.

    Colours, light, sharpness and place of the two views differ strongly, so that the shortcut of
    comparing these does not help.
    """
    config = config_files.load_beside(__file__, "base.py", "contrastive")
    config.task.name = "pretrain"

    dataset = config.dataset
    dataset.label_names = ("unlabelled", "labelled")
    dataset.recipe.name, dataset.recipe.size, dataset.recipe.encoding = "retina", 224, "raw"
    dataset.split.validation, dataset.split.test = 0.1, 0.0

    model = config.model
    model.backbone, model.weights, model.batch_norm = "MobileNetV2", "imagenet", "frozen"
    model.trainable_layers, model.hidden, model.dropout = -1, (256,), (0.0, 0.0)

    training = config.training
    training.loss, training.balance, training.batch_size = "nt_xent", "none", 64
    training.epochs, training.learning_rate, training.early_stopping_patience = 30, 3e-4, 30
    training.schedule, training.warmup_epochs = "cosine", 2.0
    training.select_by = training.early_stopping_monitor = training.plateau_monitor = "loss"

    augmentation = training.augmentation
    augmentation.horizontal_flip, augmentation.vertical_flip = True, True
    augmentation.rotation, augmentation.zoom, augmentation.shift = 0.5, 0.3, 0.1
    augmentation.contrast, augmentation.brightness = 0.4, 0.4
    augmentation.white_balance, augmentation.saturation, augmentation.gamma = 0.15, 0.4, 0.2
    augmentation.blur = 1.5

    config.evaluation.views = ("identity", "left_right_up_down")
    return config
