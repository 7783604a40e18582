"""Predictions by class, by stratum and by image: who was scored, and where decisions are wrong.

The tables are those of `summary.summarise`, which lists the keys of what is returned: plain JSON
types.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from dr_tfx.statistics.intervals import PatientBootstrap

_LISTED_ERRORS = 10  # Of each kind of error.


def strata(
    predictions: pd.DataFrame,
    *,
    class_names: Sequence[str],
    stratum_names: Sequence[str],
    threshold: float,
    bootstrap: PatientBootstrap,
) -> list[dict[str, Any]]:
    """Return the share that is decided correctly for each stratum that occurs, ascending."""
    right = (predictions["score"] >= threshold) == (predictions["target"] == 1)
    rows, present = [], sorted(predictions["stratum"].unique().tolist())
    members = predictions["stratum"].to_numpy()[:, None] == present
    rates = bootstrap.proportions(right, members)
    for i, stratum in enumerate(present):
        mine = members[:, i]
        rows.append(
            {
                "class": class_names[predictions["target"][mine].iloc[0]],
                "correct": int(right[mine].sum()),
                "images": int(mine.sum()),
                "name": stratum_names[stratum],
                "rate": rates[i].to_dict(),
                "stratum": stratum,
            }
        )
    return rows


def most_wrong(
    predictions: pd.DataFrame,
    *,
    class_names: Sequence[str],
    stratum_names: Sequence[str],
    threshold: float,
) -> list[dict[str, Any]]:
    """Return the worst misses, then the worst false alarms.

    Each kind has its own places, so that a model with many misses does not hide its false alarms.
    """
    rows = []
    for truth, lowest_first in ((1, True), (0, False)):
        wrong = (predictions["score"] >= threshold) != (truth == 1)
        errors = predictions[wrong & (predictions["target"] == truth)]
        worst = errors.sort_values(["score", "id"], ascending=[lowest_first, True])
        for row in worst.head(_LISTED_ERRORS).to_dict("records"):
            rows.append(
                {
                    "decision": class_names[1 - truth],
                    "id": row["id"],
                    "patient": row["patient"],
                    "score": float(row["score"]),
                    "stratum": stratum_names[int(row["stratum"])],
                    "truth": class_names[truth],
                }
            )
    return rows
