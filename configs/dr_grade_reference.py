"""Five grades with a ResNet, as the published description has it, read plainly.

The description gives neither a recipe nor a figure beyond a ResNet model with augmentation, the
grades 0 to 4 and the quadratic weighted kappa. This is what it says in its plainest reading, and
every setting that it does not name is the default or that of reference.py: ResNet50 with ImageNet
weights, wholly trained, a softmax with cross entropy, the most probable grade as the decision, and
a split over photographs, so that the two eyes of a patient may be in different splits.

    drtfx-build-examples --config=dr_grade_reference --image_dir=RAW \
        --labels=RAW/labels.csv --output_dir=DATA
    drtfx-train --config=dr_grade_reference --data_dir=DATA --workdir=RUN
    drtfx-evaluate --workdir=RUN --data_dir=DATA --split=validation

Time and metric: not yet measured. The best published kappa on EyePACS is .863, by a system that
fuses both eyes of a patient; Kaggle's winners had .845 to .849.
"""

import ml_collections

from dr_tfx.config import config_files


def get_config() -> ml_collections.ConfigDict:
    """Return the plain reading on EyePACS."""
    config = config_files.load_beside(__file__, "base.py", "grades")
    config.dataset = config_files.load_beside(__file__, "eyepacs.py").dataset

    config.dataset.recipe.size = 224
    config.dataset.split.method = "image"

    config.task.name, config.task.head = "dr_grade", "softmax"
    config.model.backbone, config.model.trainable_layers = "ResNet50", -1
    config.model.batch_norm = "trainable"

    training = config.training
    training.loss, training.balance, training.learning_rate = "cross_entropy", "none", 1e-4
    training.select_by, training.early_stopping_monitor = "val_kappa", "val_kappa"

    augmentation = training.augmentation
    augmentation.horizontal_flip, augmentation.rotation, augmentation.zoom = True, 0.1, 0.1

    config.evaluation.decide = "most_probable"
    return config
