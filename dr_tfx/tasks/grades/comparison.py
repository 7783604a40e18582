"""Measures that compare runs of grades."""

from collections.abc import Mapping
from typing import Any, ClassVar

from dr_tfx.tasks import judging
from dr_tfx.tasks.classes.comparison import ClassesComparison
from dr_tfx.tasks.judging import Measure


class GradesComparison(ClassesComparison):
    """Kappa, macro AUC, and what each run decides."""

    MEASURES = (
        Measure("kappa", "Quadratic weighted kappa", "number", decides=True),
        *ClassesComparison.MEASURES,
    )
    MAY_DIFFER: ClassVar = ("head", "smoothing")

    @property
    def reads(self) -> Mapping[str, Any]:
        theirs = super().reads
        figures = theirs["figures"] | dict.fromkeys(("mae", "rps"), judging.INTERVAL)
        cuts = [{"auc": judging.INTERVAL, "referred": bool}]
        return {**theirs, "cuts": cuts, "figures": figures}

    def figures_of(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Return every measure, with log_loss, mae, rps and the AUC of referred grades."""
        referred = next(cut for cut in summary["cuts"] if cut["referred"])
        figures = summary["figures"]
        return super().figures_of(summary) | {
            "mae": figures["mae"],
            "referred_auc": referred["auc"],
            "rps": figures["rps"],
        }
