"""What Prometheus may know of the service: counts and times by kind, never whose job it was."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600, 14400)


class Telemetry:
    """The metrics of one service, on a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        reg = self._registry
        self.jobs = Counter("jobs", "Jobs that ended here.", ["kind", "outcome"], registry=reg)
        self.queue_seconds = Histogram(
            "job_queue_seconds", "Time from acceptance to start.", ["kind"], buckets=_SECONDS, registry=reg
        )
        self.run_seconds = Histogram(
            "job_run_seconds", "Time from start to end.", ["kind"], buckets=_SECONDS, registry=reg
        )
        self.queue_depth = Gauge("queue_depth", "Jobs that wait.", registry=reg)
        self.slots = Gauge("slots", "Jobs that may run at the same time.", registry=reg)
        self.slots_busy = Gauge("slots_busy", "Jobs that run.", registry=reg)
        self.undelivered = Gauge("results_undelivered", "Results the edge has not taken yet.", registry=reg)
        self.bytes_read = Counter("bytes_read", "Bytes of inputs fetched from the edge.", registry=reg)
        self.bytes_written = Counter("bytes_written", "Bytes of outputs handed to the edge.", registry=reg)

    def render(self) -> bytes:
        """The text format."""
        return generate_latest(self._registry)
