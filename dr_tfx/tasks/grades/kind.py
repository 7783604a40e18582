"""The kind `grades`, which is `classes` with an order: the way to its own sides."""

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from dr_tfx.config import typed
from dr_tfx.tasks.classes.kind import Classes
from dr_tfx.tasks.grades import settings

if TYPE_CHECKING:
    from dr_tfx.tasks.grades.averaging import GradesAveraging
    from dr_tfx.tasks.grades.judgement import GradesJudgement
    from dr_tfx.tasks.grades.model import GradesModel
    from dr_tfx.tasks.grades.scores import GradesScores


class Grades(Classes):
    """Classes in an order, and the expected grade."""

    NAME = "grades"
    TASK = settings.GradesTask
    EVALUATION = settings.GradesEvaluation
    LOSSES: ClassVar = ("focal", "cross_entropy", "cumulative", "squared_error")
    MONITORS: ClassVar = {
        "val_kappa": "max",
        **Classes.MONITORS,
        "val_mae": "min",
    }

    @functools.cached_property
    def model(self) -> "GradesModel":
        from dr_tfx.tasks.grades.model import GradesModel  # Loads TensorFlow.

        return GradesModel(self)

    @functools.cached_property
    def scores(self) -> "GradesScores":
        from dr_tfx.tasks.grades.scores import GradesScores  # Loads SciPy.

        return GradesScores(self)

    @functools.cached_property
    def judgement(self) -> "GradesJudgement":
        from dr_tfx.tasks.grades.judgement import GradesJudgement  # Loads scikit-learn.

        return GradesJudgement(self)

    @functools.cached_property
    def averaging(self) -> "GradesAveraging":
        from dr_tfx.tasks.grades.averaging import GradesAveraging  # Loads SciPy.

        return GradesAveraging(self)

    def check(self) -> None:
        super().check()
        referred, grades = self.experiment.task.refer_from, len(self.class_names)
        typed.require(
            referred < grades,
            f"config.task.refer_from is {referred}; expected a grade of 1 to {grades - 1}.",
        )

    def undefined(self, images: Mapping[str, int]) -> Sequence[str]:
        return () if sum(map(bool, images.values())) > 1 else ("val_auc", "val_kappa")
