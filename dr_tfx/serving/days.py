"""What a server has read, counted by day: sums of each, and nothing of a photograph."""

import copy
import datetime
import threading
from collections.abc import Iterator

from prometheus_client import core

from dr_tfx import tasks
from dr_tfx.inference import drift as watching
from dr_tfx.preprocessing import recipes
from dr_tfx.statistics import drift

TOGETHER = "since the start"
_KEPT = 14  # Days.


class Days:
    """Counts the photographs that one model reads, by the day of this machine's clock.

    Attributes:
      watch: makes rows of them.
      since: the time from which on they are counted.
    """

    def __init__(self, reference: drift.Reference):
        self.watch = watching.Watch(reference)
        self.since = datetime.datetime.now().astimezone()
        self._together = drift.Counted(reference)
        self._days: dict[datetime.date, drift.Counted] = {}
        self._lock = threading.Lock()

    def read(self, picture: recipes.Picture, reading: tasks.Reading) -> None:
        """Count a photograph that was read."""
        self._add(self.watch.row(picture.rgb, reading), picture.ungradable)

    def refused(self, reason: str) -> None:
        """Count one that was rejected, if the quality gate refused it."""
        if verdict := watching.verdict_of(reason):
            self._add(None, verdict)

    def _add(self, row: drift.FloatArray | None, verdict: str) -> None:
        today = datetime.date.today()
        with self._lock:
            if today not in self._days:
                self._days[today] = drift.Counted(self.watch.reference)
                for day in sorted(self._days)[:-_KEPT]:
                    del self._days[day]
            for counted in (self._days[today], self._together):
                counted.add(row, verdict)

    def counted(self) -> dict[datetime.date | None, drift.Counted]:
        """Return what was counted of today, of earlier days, and, by None, since the start."""
        today = datetime.date.today()
        with self._lock:
            found: dict[datetime.date | None, drift.Counted] = {
                today: drift.Counted(self.watch.reference)
            }
            for day in sorted(self._days, reverse=True):
                found[day] = copy.deepcopy(self._days[day])
            found[None] = copy.deepcopy(self._together)
        return found


class DriftCollector:
    """Gives Prometheus what was counted of today and yesterday."""

    def __init__(self, days: Days):
        self._days = days

    def collect(self) -> Iterator[core.Metric]:
        """Yield the figures."""
        counted, reference = self._days.counted(), self._days.watch.reference
        today = datetime.date.today()
        named = {"today": today, "yesterday": today - datetime.timedelta(days=1)}
        judged = {
            name: drift.judge(reference, counted[day])
            for name, day in named.items()
            if day in counted
        }
        yield from self._judged(judged)
        together = drift.judge(reference, counted[None])
        bins = core.CounterMetricFamily(
            "drtfx_score_photographs",
            "Photographs by the bin, from 1 on, that a score of theirs is in.",
            labels=["score", "bin"],
        )
        expected = core.GaugeMetricFamily(
            "drtfx_score_expected", "The share of validation in a bin.", labels=["score", "bin"]
        )
        for name, (here, before) in together.shares.items():
            for place, (share, of_validation) in enumerate(zip(here, before, strict=True), 1):
                bins.add_metric([name, str(place)], round(share * together.photographs))
                expected.add_metric([name, str(place)], float(of_validation))
        yield from (bins, expected)

    def _judged(self, judged: dict[str, drift.Judged]) -> Iterator[core.Metric]:
        told = core.GaugeMetricFamily(
            "drtfx_drift_photographs", "Photographs that were read.", labels=["day"]
        )
        labels = ["day", "comparison"]
        values = core.GaugeMetricFamily(
            "drtfx_drift", "How far photographs are from those of validation.", labels=labels
        )
        limits = core.GaugeMetricFamily(
            "drtfx_drift_limit", "What as many of validation exceed by chance.", labels=labels
        )
        alarms = core.GaugeMetricFamily(
            "drtfx_drift_alarm", "1 where the limit is exceeded; none of too few.", labels=labels
        )
        for day, one in judged.items():
            told.add_metric([day], one.photographs)
            for name, signal in one.signals.items():
                values.add_metric([day, name], signal.value)
                if name != drift.QUALITY:
                    limits.add_metric([day, name], signal.limit)
                alarms.add_metric([day, name], float(signal.differs))
        yield from (told, values, limits, alarms)
