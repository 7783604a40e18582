"""RetinaMNIST of MedMNIST: five grades of retinopathy on photographs of 28 pixels.

The pictures come as arrays, and their official split goes into a column. With numpy and pandas:

    sets = numpy.load("retinamnist_train_val.npz")
    parts = {"train": "train", "val": "validation"}
    numpy.save("retina.npy", numpy.concatenate([sets[f"{part}_images"] for part in parts]))
    rows = [(level, parts[part]) for part in parts for level in sets[f"{part}_labels"].ravel()]
    table = pandas.DataFrame(rows, columns=["level", "split"])
    table.insert(0, "image", [f"retina-{row:07d}" for row in table.index])
    table.to_csv("labels.csv", index=False)

    drtfx-build-examples --config=retinamnist --npy_images=retina.npy \
        --labels=labels.csv --output_dir=DATA
    drtfx-train --config=retinamnist --data_dir=DATA --workdir=RUN
    drtfx-evaluate --workdir=RUN --data_dir=DATA --split=validation

Time and metric on its validation part: see docs/results. Everything here was chosen on train and
validation; the test part was not seen.
"""

import ml_collections

from dr_tfx.config import config_files


def get_config() -> ml_collections.ConfigDict:
    """Return six convolutions and a cumulative head, trained from scratch."""
    config = config_files.load_beside(__file__, "base.py", "grades")

    dataset = config.dataset
    dataset.name = "retinamnist"
    dataset.label_names = ("no DR", "mild", "moderate", "severe", "proliferative")
    dataset.recipe.size, dataset.recipe.quality_gate = 28, "off"
    dataset.split.method, dataset.split.column = "column", "split"

    config.task.name, config.task.head, config.task.refer_from = "retinamnist", "cumulative", 2

    model = config.model
    model.backbone, model.weights, model.output_stride = "SixConvolutions", "none", 4
    model.hidden, model.dropout = (), (0.3,)

    training = config.training
    training.epochs, training.batch_size, training.learning_rate = 50, 32, 1e-3
    training.loss, training.balance = "cumulative", "none"
    training.select_by, training.early_stopping_monitor = "val_loss", "val_loss"
    training.early_stopping_patience, training.plateau_patience = 25, 4

    augmentation = training.augmentation
    augmentation.horizontal_flip, augmentation.vertical_flip = True, True
    augmentation.rotation, augmentation.zoom = 0.5, 0.1
    augmentation.contrast, augmentation.brightness = 0.1, 0.1

    config.evaluation.views = ("identity", "left_right", "up_down", "left_right_up_down")
    # Published figures count hits. The expected grade, rounded, has the higher kappa and fewer
    # hits: doubt between two grades that are far apart becomes the grade in between.
    config.evaluation.decide = "most_probable"
    return config
