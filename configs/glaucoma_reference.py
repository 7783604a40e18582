"""A published glaucoma network on G1020, flaws included, as the yardstick.

Its flaws are kept on purpose. Photographs are squeezed to 64 pixels, of which the optic disc keeps
a few. The classes, 29 % of them ill, are not balanced. The first 800 photographs by number train
and the last 220 test, and have to select as well. Nothing is augmented. It never learned: the three
figures that were told of it, 78 %, 74 % and 68.64 %, are those of always answering "normal".

There are five deviations. One logit stands for two, so that the dropout after the logits, which was
one of its mistakes, has no place. Pictures are joined with labels by their names and not by the
order of a listing. The 16 steps an epoch come in whole shuffled passes instead of draws with
replacement. The epoch of the best validation accuracy is kept instead of the last. Dense layers
begin with Glorot's weights; those of the convolutions are He's, as published.

G1020.csv has the columns imageID and binaryLabels. With pandas, its split becomes a column:

    table = pandas.read_csv("G1020/G1020.csv")
    number = table["imageID"].str.extract(r"(\\d+)", expand=False).astype(int)
    table["split"] = (number.rank() <= 800).map({True: "train", False: "validation"})
    table.to_csv("split.csv", index=False)

    drtfx-build-examples --config=glaucoma_reference --image_dir=G1020/Images \
        --labels=split.csv --output_dir=DATA
    drtfx-train --config=glaucoma_reference --data_dir=DATA --workdir=RUN
    drtfx-evaluate --workdir=RUN --data_dir=DATA --split=validation

Time and metric on G1020: not yet measured.
"""

import ml_collections

from dr_tfx.config import config_files


def get_config() -> ml_collections.ConfigDict:
    """Return the published recipe on G1020."""
    config = config_files.load_beside(__file__, "base.py")

    dataset = config.dataset
    dataset.name, dataset.image_column, dataset.label_column = "g1020", "imageID", "binaryLabels"
    dataset.label_names = ("normal", "glaucoma")
    recipe = dataset.recipe
    recipe.name, recipe.size, recipe.quality_gate = "plain", 64, "off"
    dataset.split.method, dataset.split.column = "column", "split"

    config.task.name, config.task.class_names = "glaucoma", ("normal", "glaucoma")

    model = config.model
    model.backbone, model.weights, model.output_stride = "PlainConvolutions", "none", 8
    model.input_scaling, model.pooling = "unit", "flatten"
    model.hidden, model.dropout = (50,), (0.0, 0.5)

    training = config.training
    training.epochs, training.batch_size, training.learning_rate = 20, 50, 1e-3
    training.loss, training.balance = "cross_entropy", "none"
    training.select_by, training.early_stopping_monitor = "val_accuracy", "val_accuracy"
    training.early_stopping_patience = training.plateau_patience = 20
    training.augmentation.horizontal_flip = False

    config.evaluation.threshold_rule = "accuracy"
    config.evaluation.threshold_grid = (0.5, 0.5, 0.01)
    return config
