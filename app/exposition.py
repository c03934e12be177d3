"""Numbers as Prometheus reads them: the service's from SQL at each look, requests of this process.

Nothing is kept but the counts of requests, so any API process answers the same about the service.
"""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector
from starlette.types import Scope

from core.measures import Measures
from core.states import JobStatus, Outcome

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"})
WORKER_STATES = ("ready", "drained", "away")
FREE = ("memory", "scratch", "storage")


class Traffic:
    """Counts the requests of one app by route; by path, anybody could make series without end."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "tuneyard_http_requests",
            "Requests that were answered by this process.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "tuneyard_http_request_duration_seconds",
            "From a request to the beginning of its answer; a stream goes on after it.",
            ["method", "route"],
            buckets=SECONDS,
            registry=self.registry,
        )

    def saw(self, scope: Scope, status: int, seconds: float) -> None:
        """Count an answer that begins now."""
        method = scope["method"] if scope["method"] in METHODS else "other"
        # Refused before it was looked where it leads, or it leads nowhere.
        route = getattr(scope.get("route"), "path", "none")
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)


def exposition(measures: Measures, traffic: Traffic) -> bytes:
    """All numbers in Prometheus' text format."""
    service = CollectorRegistry()
    service.register(_Service(measures))
    return generate_latest(service) + generate_latest(traffic.registry)


class _Service(Collector):
    """What one look at the database has found."""

    def __init__(self, measures: Measures):
        self._found = measures

    def collect(self) -> Iterator[Metric]:
        """Every family, also those with nothing in them: an alert on an absent one never fires."""
        found = self._found
        yield _gauge(
            "jobs",
            "Jobs by status.",
            "status",
            {each: found.jobs.get(each, 0) for each in JobStatus},
        )
        oldest = found.oldest_queued_at
        waiting = GaugeMetricFamily(
            "tuneyard_queue_oldest_seconds", "For how long the oldest queued job waits; 0 for none."
        )
        waiting.add_metric([], found.age_seconds(oldest) if oldest else 0.0)
        yield waiting
        yield _gauge(
            "attempts",
            "Ended attempts by outcome, of the jobs that are kept; falls when jobs are deleted.",
            "outcome",
            {each: found.attempts.get(each, 0) for each in Outcome},
        )
        yield from self._workers()
        yield _gauge(
            "webhook_deliveries",
            "Webhook deliveries that are due, and that were given up in the last 30 days.",
            "state",
            {"due": found.deliveries_due, "failed": found.deliveries_failed},
        )

    def _workers(self) -> Iterator[Metric]:
        found = self._found
        states = [found.state_of(worker) for worker in found.workers]
        yield _gauge(
            "workers",
            "Workers that claim, that are drained, and that were not seen for two minutes.",
            "state",
            {state: states.count(state) for state in WORKER_STATES},
        )
        yield _gauge(
            "worker_heartbeat_age_seconds",
            "Since a worker was last seen.",
            "worker",
            {worker.name: found.age_seconds(worker.heartbeat_at) for worker in found.workers},
        )
        for what in FREE:
            free = {worker.name: worker.facts.get(f"{what}_free_bytes") for worker in found.workers}
            yield _gauge(
                f"worker_{what}_free_bytes",
                f"Free {what} of a worker, as it last said.",
                "worker",
                {name: count for name, count in free.items() if count is not None},
            )


def _gauge(name: str, says: str, label: str, values: dict[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"tuneyard_{name}", says, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family
