"""What the server counts, in upstream's names, for /metrics.

Written by the pipeline on every request, so it is a dictionary and nothing more; rendered when somebody scrapes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from kybern.apiserver.request import Answer, Request, Response

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_LABELS = ("verb", "group", "version", "resource", "subresource", "scope", "code")


def _labels_of(request: Request) -> tuple[str, ...]:
    info = request.info
    if info.is_resource and info.resource is not None:
        scope = "resource" if info.name else "namespace" if info.namespace else "cluster"
        # Names of subresources that there are not are clients' words, as unknown paths are.
        known = not info.subresource or any(s.name == info.subresource for s in info.resource.subresources)
        subresource = info.subresource if known else "other"
        return (info.verb.upper(), info.group, info.version, info.plural, subresource, scope)
    # Unknown paths are clients' words: they never become labels.
    return (request.method if request.method.isalpha() else "other", "", "", "", "", "")


class Metrics:
    """A prometheus collector of the server's own numbers."""

    def __init__(self) -> None:
        self._requests: dict[tuple[tuple[str, ...], int], int] = {}
        self._gauges: list[tuple[str, str, str, Callable[[], Iterable[tuple[str, float]]]]] = []
        self.registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.registry.register(self)

    def count(self, request: Request, answer: Answer) -> None:
        findings = request.info.findings
        if findings.labels is None:
            findings.labels = _labels_of(request)
        key = (findings.labels, answer.status if type(answer) is Response else 200)
        self._requests[key] = self._requests.get(key, 0) + 1

    def gauge(self, name: str, text: str, label: str, read: Callable[[], Iterable[tuple[str, float]]]) -> None:
        """Add a gauge that is read at scrape time: `read` gives (label value, number) pairs."""
        self._gauges.append((name, text, label, read))

    def collect(self) -> Iterable[Metric]:
        requests = CounterMetricFamily(
            "apiserver_request", "Counter of apiserver requests broken out for each verb and resource.", labels=_LABELS
        )
        for (labels, code), count in list(self._requests.items()):
            requests.add_metric((*labels, str(code)), count)
        yield requests
        for name, text, label, read in self._gauges:
            family = GaugeMetricFamily(name, text, labels=[label])
            for value, number in read():
                family.add_metric([value], number)
            yield family

    def render(self) -> bytes:
        return generate_latest(self.registry)
