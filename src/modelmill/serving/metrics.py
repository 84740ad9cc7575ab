"""The service's metrics for Prometheus."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Metrics in a registry of their own: two services in one process do not share any."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry, "namespace": "modelmill"}
        self.requests = Counter("requests", "Requests for predictions by status.", ["status"], **own)
        self.request_seconds = Histogram(
            "request_seconds", "Time to answer a request for predictions.", buckets=_SECONDS, **own
        )
        self.rows = Counter("rows", "Rows answered by signal and version.", ["model", "version"], **own)
        self.batch_rows = Histogram("batch_rows", "Rows that a thread took at a time.", buckets=_ROWS, **own)
        self.queue_rows = Gauge("queue_rows", "Rows that wait.", **own)
        self.version = Gauge("model_version", "Version that answers.", ["model"], **own)
        self.stale = Gauge(
            "model_stale", "1 while the champion could not be loaded and another answers.", ["model"], **own
        )
        self.swaps = Counter("swaps", "Versions that were put in use.", ["model"], **own)
        self.load_failures = Counter("load_failures", "Versions that were refused.", ["model"], **own)
        self.load_seconds = Histogram(
            "load_seconds", "Time to fetch, verify, load and warm up a version.", buckets=_SECONDS, **own
        )
        self.poll_failures = Counter("poll_failures", "Polls that the registry did not answer.", **own)
        self.shadow_rows = Counter(
            "shadow_rows", "Rows that the challenger scored too.", ["model", "agree"], **own
        )
        self.shadow_dropped = Counter(
            "shadow_dropped", "Rows that were not compared, or not written.", ["reason"], **own
        )

    def render(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        return generate_latest(self.registry)
