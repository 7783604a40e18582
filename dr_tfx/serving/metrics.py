"""Figures of the server, in the text form of Prometheus. No label comes from a client."""

from collections.abc import Sequence

import prometheus_client as prometheus

from dr_tfx.serving import answers, days, service

CONTENT_TYPE = prometheus.CONTENT_TYPE_LATEST
_TIMED = "/v1/predict"
_SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_PICTURES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self._registry = registry = prometheus.CollectorRegistry()
        self._photographs = prometheus.Counter(
            "drtfx_photographs",
            "Photographs, by what became of them: read, flagged, or the reason of a rejection.",
            ["outcome"],
            registry=registry,
        )
        self._requests = prometheus.Counter(
            "drtfx_requests", "Answered requests.", ["status"], registry=registry
        )
        self._seconds = prometheus.Histogram(
            "drtfx_predict_seconds",
            "Time from the head of a request for predictions to the end of its answer.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._pictures = prometheus.Histogram(
            "drtfx_batch_pictures",
            "Pictures that passed the model together.",
            buckets=_PICTURES,
            registry=registry,
        )
        self._in_work = prometheus.Gauge(
            "drtfx_photographs_in_work", "Photographs that are in work.", registry=registry
        )
        self._model = prometheus.Info("drtfx_model", "The model.", registry=registry)
        prometheus.ProcessCollector(registry=registry)

    def batch(self, pictures: int) -> None:
        """Count a batch of so many pictures."""
        self._pictures.observe(pictures)

    def count(self, told: Sequence[answers.PhotographAnswer]) -> None:
        """Count the photographs of a request."""
        for one in told:
            seen = "read" if one.quality.gradable else "flagged"
            outcome = one.rejected.reason if one.rejected else seen
            self._photographs.labels(outcome).inc()

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count a request; status 0 if the client left."""
        self._requests.labels(str(status)).inc()
        if path == _TIMED:
            self._seconds.observe(seconds)

    def text(self, served: service.Service) -> bytes:
        """Return all figures."""
        self._in_work.set(served.admission.photographs)
        model = served.model
        task = model.experiment.task
        self._model.info({"name": task.name, "kind": task.kind, "version": model.version})
        counted = prometheus.generate_latest(self._registry)
        if not served.days:
            return counted
        registry = prometheus.CollectorRegistry()
        registry.register(days.DriftCollector(served.days))
        return counted + prometheus.generate_latest(registry)
