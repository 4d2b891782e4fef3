"""What the server counts, in upstream's names, for /metrics and /metrics/slis.

Written by the pipeline on every request, so a request costs one look-up of its line (verb, resource, scope) and a few
additions to plain ints; everything else is read when somebody scrapes. `registry` takes more families of other parts.
"""

from __future__ import annotations

import functools
import time
from bisect import bisect_left
from collections.abc import Callable

from kybern.api.resource import Resource
from kybern.apiserver.request import Request
from kybern.machinery import metrics
from kybern.machinery.metrics import Labels, Samples, Series

CONTENT_TYPE = metrics.CONTENT_TYPE

DURATIONS = (0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60)
_SLI_DURATIONS = DURATIONS[2:]
_SIZES = metrics.exponential(1000, 10, 7)
_WHERE: Labels = ("verb", "group", "version", "resource", "subresource", "scope", "component")
_VERBS = {
    "get": "GET", "list": "LIST", "watch": "WATCH", "create": "POST", "update": "PUT", "patch": "PATCH",
    "delete": "DELETE", "deletecollection": "DELETECOLLECTION",
}  # fmt: skip
_CONNECTS = frozenset({"proxy", "exec", "attach", "portforward"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_APPLY = frozenset({"application/apply-patch+yaml", "application/apply-patch+cbor"})
# (group, version, resource) that are served and deprecated; none of them has a release that will drop it.
_DEPRECATED = frozenset({("", "v1", "endpoints"), ("", "v1", "componentstatuses")})
# Clients that upstream tells apart in apiserver_request_total, by their user agents.
_SYSTEM_CLIENTS = {
    "kube-apiserver": "kube-apiserver",
    "kube-controller-manager": "kube-controller-manager",
    "kube-scheduler": "kube-scheduler",
}


class Line:
    """Requests of one kind: one verb on one resource in one scope, or on one path."""

    __slots__ = ("codes", "dry_durations", "durations", "key", "moved", "owner", "queued", "running", "sizes")

    def __init__(self, owner: Metrics, key: Labels) -> None:
        self.owner = owner  # findings are shared by all servers of a process
        self.key = key
        self.codes: dict[tuple[int, str, str], int] = {}  # by code, dry run and system client
        self.durations = Series(DURATIONS)
        self.dry_durations = Series(DURATIONS)  # of dry runs
        self.sizes = Series(_SIZES)
        self.running = 0  # of those that last: watches, logs
        # What tells the SLI from the durations: how many more (or fewer) each bucket has, and the seconds left out.
        self.moved: list[int] | None = None
        self.queued = 0.0

    def leave_out(self, seconds: float, queued: float) -> None:
        """A request took so many seconds, of which it only waited for its turn: those are not the SLI's."""
        if self.moved is None:
            self.moved = [0] * (len(DURATIONS) + 1)
        self.moved[bisect_left(DURATIONS, seconds)] -= 1
        self.moved[bisect_left(DURATIONS, seconds - queued)] += 1
        self.queued += queued


class Metrics:
    """The server's own numbers. `paths` are the non-resource paths that there are: others never become labels."""

    def __init__(self) -> None:
        self.registry = metrics.Registry()
        self.slis = metrics.Registry()
        self.paths: frozenset[str] = frozenset()
        # Of resources that are not built in: by group, version and plural.
        self.resource_of: Callable[[str, str, str], Resource | None] = lambda group, version, plural: None
        self.authenticated = 0
        self.allowed = 0
        self.allowed_by: dict[str, int] = {}  # authorizer -> requests
        self.unauthenticated = {"error": 0, "failure": 0}  # bad credentials, none
        self.refused = 0
        self._lines: dict[tuple[str, ...], Line] = {}
        self._inflight = {"mutating": _Peak(), "readOnly": _Peak()}
        self._add_requests()
        self._add_verdicts()

    # -- counting ------------------------------------------------------------------------------------------------

    def finish(self, request: Request, status: int, size: int) -> None:
        """A request is over: answered with a code and so many bytes (-1: a stream)."""
        seconds = time.perf_counter() - request.began
        line = request.info.findings.line
        if line is None or line.owner is not self or request.method == "PATCH":
            line = self._line_of(request)
        dry_run = "All" if "dryRun" in request.query else ""
        agent = request.headers.get("user-agent", "")
        client = _SYSTEM_CLIENTS.get(agent[: agent.find("/")], "") if agent[:1] == "k" else ""
        codes = line.codes
        code = (status, dry_run, client)
        codes[code] = codes.get(code, 0) + 1
        durations = line.dry_durations if dry_run else line.durations
        durations.counts[bisect_left(DURATIONS, seconds)] += 1
        durations.sum += seconds
        if request.queued:
            line.leave_out(seconds, request.queued)
        if size >= 0:
            sizes = line.sizes
            sizes.counts[bisect_left(_SIZES, size)] += 1
            sizes.sum += size

    def begin_long(self, request: Request) -> Line:
        """A watch or another stream starts; the caller lowers `running` of its line when it ends."""
        line = self._line_of(request)
        line.running += 1
        return line

    def inflight(self, *, is_mutating: bool, step: int) -> None:
        """A request that takes time begins (1) or ends (-1)."""
        self._inflight["mutating" if is_mutating else "readOnly"].move(step)

    def _line_of(self, request: Request) -> Line:
        """The line of a request, also kept with what was found out about requests like it."""
        info = request.info
        method = request.method if request.method in _METHODS else "other"
        if not info.is_resource:
            path = info.path.rstrip("/")
            labels: Labels = (method, "", "", "", path if path in self.paths else "", "", "")
        else:
            resource = info.resource or self.resource_of(info.group, info.version, info.plural)
            labels = _labels_of(request, method, resource) if resource is not None else (method, *[""] * 6)
        line = self._lines.get(labels)
        if line is None:
            line = self._lines[labels] = Line(self, labels)
        if not info.is_resource or info.resource is not None:  # custom ones come and go
            info.findings.line = line
        return line

    # -- rendering -----------------------------------------------------------------------------------------------

    def render(self) -> bytes:
        return self.registry.render() + _process_metrics()()

    def _add_requests(self) -> None:
        registry = self.registry
        registry.read(
            "counter",
            "apiserver_request_total",
            "[STABLE] Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, "
            "scope, component, and HTTP response code.",
            (*_WHERE, "dry_run", "code", "system_client"),
            lambda: self._totals(lambda _: True),
        )
        registry.read(
            "counter",
            "apiserver_request_terminations_total",
            "[ALPHA] Number of requests which apiserver terminated in self-defense.",
            (*_WHERE, "code"),
            lambda: [((*key[:7], key[8]), n) for key, n in self._totals(lambda code: code in (429, 503, 504))],
        )
        registry.add(
            _Lines(
                "apiserver_request_duration_seconds",
                "[STABLE] Response latency distribution in seconds for each verb, dry run value, group, version, "
                "resource, subresource, scope and component.",
                (*_WHERE, "dry_run"),
                lambda: [
                    ((*line.key, dry), series)
                    for line in self._lines.values()
                    for dry, series in (("", line.durations), ("All", line.dry_durations))
                ],
            )
        )
        registry.add(
            _Lines(
                "apiserver_request_sli_duration_seconds",
                "[ALPHA] Response latency distribution (not counting webhook duration and priority & fairness queue "
                "wait times) in seconds for each verb, group, version, resource, subresource, scope and component.",
                _WHERE,
                lambda: [(line.key, _sli(line)) for line in self._lines.values()],
            )
        )
        registry.add(
            _Lines(
                "apiserver_response_sizes",
                "[STABLE] Response size distribution in bytes for each group, version, verb, resource, subresource, "
                "scope and component.",
                _WHERE,
                lambda: [(line.key, line.sizes) for line in self._lines.values()],
            )
        )
        registry.read(
            "gauge",
            "apiserver_longrunning_requests",
            "[STABLE] Gauge of all active long-running apiserver requests broken out by verb, group, version, "
            "resource, scope and component. Not all requests are tracked this way.",
            _WHERE,
            lambda: [(line.key, line.running) for line in self._lines.values() if line.running],
        )
        registry.read(
            "gauge",
            "apiserver_current_inflight_requests",
            "[STABLE] Maximal number of currently used inflight request limit of this apiserver per request kind in "
            "last second.",
            ("request_kind",),
            lambda: [((kind,), peak.read()) for kind, peak in self._inflight.items()],
        )

    def _add_verdicts(self) -> None:
        self.registry.read(
            "counter",
            "authentication_attempts",
            "[ALPHA] Counter of authenticated attempts.",
            ("result",),
            lambda: [
                (("success",), self.authenticated),
                *(((result,), number) for result, number in self.unauthenticated.items()),
            ],
        )
        self.registry.read(
            "counter",
            "authorization_attempts_total",
            "[ALPHA] Counter of authorization attempts broken down by result. It can be either 'allowed', 'denied', "
            "'no-opinion' or 'error'.",
            ("result",),
            lambda: [(("allowed",), self.allowed), (("no-opinion",), self.refused)],
        )

        self.registry.read(
            "gauge",
            "apiserver_requested_deprecated_apis",
            "[STABLE] Gauge of deprecated APIs that have been requested, broken out by API group, version, resource, "
            "subresource, and removed_release.",
            ("group", "version", "resource", "subresource", "removed_release"),
            lambda: {
                ((*line.key[1:5], ""), 1)
                for line in self._lines.values()
                if line.codes and line.key[1:4] in _DEPRECATED
            },
        )

    def _totals(self, wanted: Callable[[int], bool]) -> Samples:
        for line in self._lines.values():
            for (code, dry_run, client), number in line.codes.items():
                if wanted(code):
                    yield (*line.key, dry_run, str(code), client), number


def _labels_of(request: Request, method: str, resource: Resource) -> Labels:
    """Names of subresources that there are not are clients' words: they share one line."""
    info = request.info
    is_known = not info.subresource or any(s.name == info.subresource for s in resource.subresources)
    subresource = info.subresource if is_known else "other"
    scope = "resource" if info.name else "namespace" if info.namespace else "cluster"
    verb = "CONNECT" if subresource in _CONNECTS else _VERBS.get(info.verb, method)
    if info.verb == "patch" and request.headers.get("content-type", "") in _APPLY:
        verb = "APPLY"
    return (verb, info.group, info.version, info.plural, subresource, scope, "apiserver")


class _Lines:
    """A histogram over the lines of requests."""

    def __init__(self, name: str, text: str, labels: Labels, read: Callable[[], list[tuple[Labels, Series]]]) -> None:
        self.name = name
        self._text = text
        self._labels = labels
        self._read = read

    def render(self, out: list[str]) -> None:
        out.append(f"# HELP {self.name} {self._text}")
        out.append(f"# TYPE {self.name} histogram")
        for key, series in sorted(self._read(), key=lambda item: item[0]):
            if series.total:
                metrics.render_series(out, self.name, self._labels, key, series)


def _sli(line: Line) -> Series:
    """Dry runs or not, in the buckets of the SLI."""
    whole = Series(_SLI_DURATIONS)
    for series in (line.durations, line.dry_durations):
        counts = [sum(series.counts[:3]), *series.counts[3:]]
        whole.counts = [a + b for a, b in zip(whole.counts, counts, strict=True)]
        whole.sum += series.sum
    if line.moved is not None:
        moved = [sum(line.moved[:3]), *line.moved[3:]]
        whole.counts = [a + b for a, b in zip(whole.counts, moved, strict=True)]
        whole.sum -= line.queued
    return whole


@functools.cache
def _process_metrics() -> Callable[[], bytes]:
    """Of the process itself. Imported at the first scrape: it takes web servers along that nobody here starts."""
    import prometheus_client as prometheus

    registry = prometheus.CollectorRegistry(auto_describe=False)
    for collector in (prometheus.ProcessCollector, prometheus.PlatformCollector, prometheus.GCCollector):
        collector(registry=registry)
    return functools.partial(prometheus.generate_latest, registry)


class _Peak:
    """The most at once in the last second."""

    __slots__ = ("_peak", "_second", "value")

    def __init__(self) -> None:
        self.value = 0
        self._peak = 0
        self._second = 0

    def move(self, step: int) -> None:
        second = int(time.monotonic())
        if second > self._second + 1:
            self._peak = self.value
        self._second = second
        self.value += step
        self._peak = max(self._peak, self.value)

    def read(self) -> int:
        return self._peak if int(time.monotonic()) <= self._second + 1 else self.value
