"""What a server counts, in the form that Prometheus reads."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "caffe_requests", "requests to /detect by status", ["status"], registry=self.registry
        )
        self.objects = Counter("caffe_objects", "objects found", registry=self.registry)
        self.seconds = Histogram(
            "caffe_request_seconds", "time of an answered request", registry=self.registry
        )
        self.batches = Histogram(
            "caffe_batch_pictures",
            "pictures in one pass of the net",
            buckets=_BATCH_SIZES,
            registry=self.registry,
        )
        self.waiting = Gauge(
            "caffe_requests_waiting", "requests without an answer yet", registry=self.registry
        )

    def text(self) -> bytes:
        """All of them."""
        return generate_latest(self.registry)
