"""The small HTTP server of components other than the API server: health, metrics, and what the component is.

Started by a component's composition root as one task of its TaskGroup; answers until cancelled. Paths and texts are
those of upstream's components: /healthz, /livez, /readyz (with /<check>, ?verbose, ?exclude=), /metrics,
/metrics/slis, /configz, /statusz and /flagz.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import REGISTRY as DEFAULT
from prometheus_client import CollectorRegistry, generate_latest

from kybern.api import codec
from kybern.apiserver import version
from kybern.client.clock import RealClock
from kybern.machinery import health, metrics, zpages
from kybern.machinery.health import Check, Counts, Health
from kybern.wire.http1.server import serve
from kybern.wire.message import Request, Response

_BUILD = ("major", "minor", "git_version", "git_commit", "git_tree_state", "build_date", "go_version", "compiler")


class Page:
    """All that a component tells of itself. `checks` gives each check's name with "" (fine) or what is wrong."""

    def __init__(
        self,
        component: str,
        checks: Callable[[], dict[str, str]] = dict,
        *,
        registry: metrics.Registry | None = None,
        prometheus: CollectorRegistry = DEFAULT,
        options: Any = None,
    ) -> None:
        self.component = component
        self.registry = registry or metrics.Registry()
        self._prometheus = prometheus
        self._clock = RealClock()
        self._started = self._clock.now()
        self._flags: Mapping[str, object] = dataclasses.asdict(options) if options is not None else {}
        self._slis = metrics.Registry()
        counts = Counts(self._slis, self._started.timestamp())
        ping: dict[str, Check] = {"ping": lambda: ""}
        own = {name: _one_of(checks, name) for name in checks()}
        endpoints = (
            Health("healthz", {**ping, **own}, counts),
            Health("livez", ping, counts),
            Health("readyz", own or ping, counts),
        )
        self._healths = {f"/{endpoint.endpoint}": endpoint for endpoint in endpoints}
        self._documents: dict[str, Callable[[], Response]] = {
            "/metrics": lambda: Response(body=self.render_metrics(), content_type=metrics.CONTENT_TYPE),
            "/metrics/slis": lambda: Response(body=self._slis.render(), content_type=metrics.CONTENT_TYPE),
            "/configz": lambda: Response(body=codec.encode({"componentconfig": dict(self._flags)})),
            "/flagz": lambda: _text(200, zpages.render_flags(component, self._flags)),
            "/statusz": lambda: _text(200, self._status()),
        }
        _add_build(self.registry)

    def __call__(self, request: Request) -> Response:
        document = self._documents.get(request.path.rstrip("/"))
        if document is not None:
            return document()
        first = f"/{request.path[1:].partition('/')[0]}"
        endpoint = self._healths.get(first)
        if endpoint is None:
            return _text(*health.NOT_FOUND)
        return _text(*endpoint.answer(request.path, request.query))

    def render_metrics(self) -> bytes:
        return self.registry.render() + generate_latest(self._prometheus)

    def _status(self) -> str:
        told = version.GIT_VERSION[1:].split("+")[0]
        paths = ("/configz", "/flagz", "/healthz", "/livez", "/metrics", "/readyz")
        return zpages.render_status(self.component, told, self._started, self._clock.now(), paths)


async def serve_page(address: str, port: int, page: Page) -> None:
    """Serve `page` on `address`:`port`."""
    async with asyncio.TaskGroup() as tasks:
        server = await serve(page, request_type=Request, tasks=tasks, clock=RealClock(), host=address, port=port)
        try:
            await asyncio.Event().wait()
        finally:
            await server.close(grace=0)


def _one_of(checks: Callable[[], dict[str, str]], name: str) -> Check:
    return lambda: checks().get(name, "")


def _add_build(registry: metrics.Registry) -> None:
    build = version.build()
    names = (*_BUILD, "platform")
    values = tuple(build[_camel(name)] for name in names)
    registry.read(
        "gauge",
        "kubernetes_build_info",
        "[BETA] A metric with a constant '1' value labeled by what the component was built from.",
        names,
        lambda: [(values, 1)],
    )


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def add_queues(registry: metrics.Registry, queues: Callable[[], Iterable[tuple[str, Any]]]) -> None:
    """Upstream's workqueue_* metrics; `queues` gives each queue's name and its workqueue Metrics."""
    numbers: tuple[tuple[str, str, str, Callable[[Any], float]], ...] = (
        ("gauge", "workqueue_depth", "[BETA] Current depth of workqueue", lambda m: m.depth),
        ("counter", "workqueue_adds_total", "[BETA] Total number of adds handled by workqueue", lambda m: m.adds),
        (
            "counter",
            "workqueue_retries_total",
            "[BETA] Total number of retries handled by workqueue",
            lambda m: m.retries,
        ),
        (
            "gauge",
            "workqueue_unfinished_work_seconds",
            "[BETA] How many seconds of work has done that is in progress and hasn't been observed by work_duration.",
            lambda m: m.unfinished,
        ),
        (
            "gauge",
            "workqueue_longest_running_processor_seconds",
            "[BETA] How many seconds has the longest running processor for workqueue been running.",
            lambda m: m.longest,
        ),
    )
    for kind, name, text, number in numbers:
        registry.read(kind, name, text, ("name",), _each(queues, number))
    waited = "[BETA] How long in seconds an item stays in workqueue before being requested."
    registry.add(_Durations("workqueue_queue_duration_seconds", waited, queues, lambda m: m.waited))
    worked = "[BETA] How long in seconds processing an item from workqueue takes."
    registry.add(_Durations("workqueue_work_duration_seconds", worked, queues, lambda m: m.worked))


def _each(
    queues: Callable[[], Iterable[tuple[str, Any]]], number: Callable[[Any], float]
) -> Callable[[], metrics.Samples]:
    return lambda: [((name,), number(found)) for name, found in queues()]


class _Durations:
    """A histogram over all queues."""

    def __init__(
        self,
        name: str,
        text: str,
        queues: Callable[[], Iterable[tuple[str, Any]]],
        series_of: Callable[[Any], metrics.Series],
    ) -> None:
        self.name = name
        self._text = text
        self._queues = queues
        self._series_of = series_of

    def render(self, out: list[str]) -> None:
        found = sorted(self._queues(), key=lambda item: item[0])
        if found:
            out.append(f"# HELP {self.name} {self._text}")
            out.append(f"# TYPE {self.name} histogram")
            for name, queue in found:
                metrics.render_series(out, self.name, ("name",), (name,), self._series_of(queue))


def _text(status: int, text: str) -> Response:
    headers = (("X-Content-Type-Options", "nosniff"), ("Cache-Control", "no-cache, private"))
    return Response(status=status, body=text.encode(), content_type=health.CONTENT_TYPE, headers=headers)
