"""The reference recipe of lesion segmentation: a U-Net from scratch on whole CLAHE photographs.

    drtfx-build-examples --config=lesions_reference --image_dir=RAW --labels=masks \
        --masks_dir=RAW/masks --output_dir=DATA
    drtfx-train --config=lesions_reference --data_dir=DATA --workdir=RUN
    drtfx-evaluate --workdir=RUN --data_dir=DATA --split=validation

The photographs are stretched to a square, with CLAHE over all of it, as in reference.py.

Time: 27 CPU minutes for 32 photographs. Metric: mean AUPR .428 (.279-.525) on 11 photographs of
IDRiD that had no part in it; see docs/results.
"""

import ml_collections

from dr_tfx.config import config_files


def get_config() -> ml_collections.ConfigDict:
    """Return lesions.py on whole photographs, with the encoder of a U-Net that begins at random."""
    config = config_files.load_beside(__file__, "lesions.py", "whole")
    config.dataset.recipe.name = "reference"
    model = config.model
    model.backbone, model.weights, model.output_stride = "UNetEncoder", "none", 16
    config.task.width, config.task.widest = 16, 128
    config.training.learning_rate = 1e-3
    config.evaluation.views = ("identity",)
    return config
