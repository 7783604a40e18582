"""Lesions in photographs of the retina: where microaneurysms, haemorrhages and exudates are.

    drtfx-build-examples --config=lesions --image_dir=RAW --labels=masks \
        --masks_dir=RAW/masks --output_dir=DATA
    drtfx-train --config=lesions --data_dir=DATA --workdir=RUN
    drtfx-evaluate --workdir=RUN --data_dir=DATA --split=validation

A U-Net decoder on MobileNetV2 learns from patches of 256 pixels, three of four with a lesion, and
marks whole photographs in overlapping tiles. The pictures have 1,792 pixels a side, which is half
the resolution of IDRiD's photographs, at 22 MB an example. With fewer than a hundred photographs,
cross-validate: --config.dataset.split.folds=5.

`--config=lesions:disc` finds the optic disc, which is larger than a patch, on whole
photographs of 384 pixels; its masks are in the folder OD.

`--config=lesions:demo` is a U-Net without pre-trained weights, on whole photographs,
smaller and shorter, for drtfx-demo: mean Dice .839 (.833-.847) on 24 drawn photographs of its
validation.

Time: 20 CPU minutes for 32 photographs. Metric: mean AUPR .458 (.354-.541) on 11 photographs of
IDRiD that had no part in it; see docs/results.
"""

import ml_collections

from dr_tfx.config import config_files


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """Return a U-Net on a pre-trained backbone.

    Args:
      variant: "" for patches of large photographs; `whole` for whole ones of 384 pixels; `disc` for
        the optic disc; `demo` for drawn photographs without pre-trained weights.

    Raises:
      ValueError: there is no such variant.
    """
    change = {"": _in_patches, "whole": None, "disc": _of_the_disc, "demo": _for_demo}
    if variant not in change:
        raise ValueError(f"lesions.py has no variant {variant!r}; expected one of {list(change)}")
    config = config_files.load_beside(__file__, "base.py", "masks")

    dataset = config.dataset
    dataset.label_column, dataset.label_names = "lesions", ("without", "with")
    dataset.masks = ("MA", "HE", "EX", "SE")
    dataset.recipe.size = 384
    dataset.shard_examples = 64

    task = config.task
    task.name, task.width, task.widest = "lesions", 8, 64

    model = config.model
    model.trainable_layers, model.batch_norm = -1, "frozen"

    training = config.training
    training.epochs, training.batch_size, training.learning_rate = 60, 4, 5e-4
    training.loss, training.balance = "dice_cross_entropy", "none"
    training.select_by, training.early_stopping_monitor = "val_aupr", "val_aupr"
    training.early_stopping_patience = 20
    training.plateau_monitor, training.plateau_patience = "val_aupr", 8

    augmentation = training.augmentation
    augmentation.horizontal_flip, augmentation.vertical_flip = True, True
    augmentation.rotation, augmentation.zoom = 0.08, 0.15
    augmentation.contrast, augmentation.brightness = 0.15, 0.1

    config.evaluation.views = ("identity", "left_right", "up_down", "left_right_up_down")
    config.evaluation.batch_size = 4
    config.evaluation.clip_limits = (1.0, 2.0, 4.0, 8.0)
    if make := change[variant]:
        make(config)
    return config


def _in_patches(config: ml_collections.ConfigDict) -> None:
    """Change the recipe to one for lesions of a few pixels in large photographs."""
    config.dataset.recipe.size = 1792
    config.dataset.shard_examples = 8
    task = config.task
    task.patch, task.patches, task.lesion_share, task.tile = 256, 16, 0.75, 512
    training = config.training
    training.epochs, training.batch_size, training.learning_rate = 8, 8, 1e-3
    training.schedule, training.warmup_epochs = "cosine", 0.25
    config.evaluation.views = ("identity", "left_right_up_down")
    config.evaluation.batch_size = 1
    config.evaluation.clip_limits = ()  # A pass over pictures of this size takes minutes.


def _of_the_disc(config: ml_collections.ConfigDict) -> None:
    """Change the recipe to one for the optic disc, of which every photograph has one."""
    config.task.name = "disc"
    config.dataset.masks = ("OD",)
    training = config.training
    training.epochs, training.learning_rate = 30, 1e-3
    training.schedule, training.warmup_epochs = "cosine", 1.0
    config.evaluation.views = ("identity",)


def _for_demo(config: ml_collections.ConfigDict) -> None:
    """Change the recipe to one that learns from a hundred photographs from scratch."""
    config.dataset.name = "drawn photographs"
    # A drawn microaneurysm is a pixel or two wide at this size.
    config.dataset.masks = ("HE", "EX", "SE")
    config.dataset.recipe.size = 128
    config.dataset.patient_pattern = r"^(\d+)_"
    config.task.width, config.task.widest = 16, 128
    model = config.model
    model.backbone, model.weights, model.output_stride = "UNetEncoder", "none", 16
    training = config.training
    training.epochs, training.batch_size, training.learning_rate = 25, 8, 1e-3
    config.evaluation.views = ("identity",)
