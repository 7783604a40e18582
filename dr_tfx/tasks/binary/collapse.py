"""A binary model that learns nothing, noticed from one epoch's row of history.csv."""

from collections.abc import Mapping, Sequence

import numpy as np

from dr_tfx.statistics import metrics
from dr_tfx.tasks import alarms

SHARE = "val_predicted_positive"  # Column of history.csv: validation images called class 1.
OVER = alarms.OVER | {
    alarms.CHANCE: "The validation AUC is no longer compatible with guessing",
}


def wrong_with(
    row: Mapping[str, float], images: Sequence[int], names: Sequence[str]
) -> dict[str, str]:
    """Return what is wrong with one epoch: the kind of the alarm and a sentence with its figures.

    Images count as independent, which two eyes of a patient are not.

    Args:
      row: of history.csv: `val_auc`, and at threshold 0.5 `val_accuracy` and SHARE.
      images: validation images of class 0 and 1.
      names: of the two classes.
    """
    counts = np.asarray(images)
    total, found = int(counts.sum()), {}
    # The scores of a model that ranks well may merely lie on one side of 0.5.
    ranks = (
        f"; the AUC of its scores is {row['val_auc']:.3f}" if np.isfinite(row["val_auc"]) else ""
    )
    truth = counts / total
    share = row.get(SHARE, float("nan"))
    decided = np.array([1 - share, share])
    top, common = int(decided.argmax()), int(truth.argmax())
    if decided[top] == 1 or (decided[top] >= alarms.ONE_CLASS and truth[top] < alarms.ONE_CLASS):
        found["one_answer"] = (
            f"{100 * decided[top]:.1f} % of the validation images are called '{names[top]}' at "
            f"threshold 0.5, yet only {100 * truth[top]:.2f} % are: the model (almost) always says "
            f"the same{ranks}."
        )
    margin = metrics.auc_margin(*counts.tolist())
    if row["val_auc"] - margin <= 0.5:
        found[alarms.CHANCE] = (
            f"The validation AUC, {row['val_auc']:.3f}, is not above what guessing gives on so few "
            f"images, 0.5 ± {margin:.3f}."
        )
    if np.isfinite(row["val_accuracy"]):
        accuracy = metrics.wilson(round(row["val_accuracy"] * total), total)
        if accuracy.low <= truth[common]:
            found["majority"] = (
                f"The validation accuracy at threshold 0.5, {alarms.span(accuracy)}, is not "
                f"clearly above {100 * truth[common]:.2f} %, which always saying "
                f"'{names[common]}' reaches{ranks}."
            )
    return found
