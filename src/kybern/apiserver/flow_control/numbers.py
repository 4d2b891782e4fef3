"""apiserver_flowcontrol_* of /metrics, read from the levels when somebody scrapes. Names and buckets are upstream's."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kybern.apiserver.flow_control.control import FlowControl
from kybern.apiserver.flow_control.level import Counts, Level
from kybern.machinery import metrics
from kybern.machinery.metrics import Labels, Samples, Series

_FLOW: Labels = ("flow_schema", "priority_level")
_LEVEL: Labels = ("priority_level",)
_IN_APF = "in the API Priority and Fairness subsystem"


class _Histogram:
    """A histogram whose series are kept in the levels."""

    def __init__(
        self, name: str, text: str, labels: Labels, read: Callable[[], Iterable[tuple[Labels, Series]]]
    ) -> None:
        self.name = name
        self._text = text
        self._labels = labels
        self._read = read

    def render(self, out: list[str]) -> None:
        found = [(key, series) for key, series in self._read() if series.total]
        if found:
            out.append(f"# HELP {self.name} {self._text}")
            out.append(f"# TYPE {self.name} histogram")
            for key, series in sorted(found, key=lambda item: item[0]):
                metrics.render_series(out, self.name, self._labels, key, series)


def register(registry: metrics.Registry, control: FlowControl) -> None:
    """Add all of them."""
    _add_flows(registry, control)
    _add_histograms(registry, control)
    _add_levels(registry, control)


def _counts(control: FlowControl) -> Iterable[tuple[Labels, Counts]]:
    for level in (*control.levels.values(), *control.leaving):
        for counts in level.counts.values():
            yield (counts.schema, counts.level), counts


def _add_flows(registry: metrics.Registry, control: FlowControl) -> None:
    def read(number: Callable[[Counts], float]) -> Callable[[], Samples]:
        return lambda: [(key, number(counts)) for key, counts in _counts(control)]

    def rejected() -> Samples:
        for (schema, level), counts in _counts(control):
            for reason, number in counts.rejected.items():
                yield (schema, level, reason), number

    texts: tuple[tuple[str, str, str, Callable[[Counts], float]], ...] = (
        ("counter", "dispatched_requests_total",
         "[BETA] Number of requests executed by API Priority and Fairness subsystem",
         lambda c: c.dispatched + c.quick),
        ("gauge", "current_executing_requests",
         "[BETA] Number of requests in initial (for a WATCH) or any (for a non-WATCH) execution stage " + _IN_APF,
         lambda c: c.running),
        ("gauge", "current_executing_seats",
         "[BETA] Concurrency (number of seats) occupied by the currently executing (initial stage for a WATCH, any "
         "stage otherwise) requests " + _IN_APF, lambda c: c.running_seats),
        ("gauge", "current_inqueue_requests",
         "[BETA] Number of requests currently pending in queues of the API Priority and Fairness subsystem",
         lambda c: c.waiting),
        ("gauge", "current_inqueue_seats",
         "[ALPHA] Number of seats currently pending in queues of the API Priority and Fairness subsystem",
         lambda c: c.waiting_seats),
    )  # fmt: skip
    for kind, name, text, number in texts:
        registry.read(kind, f"apiserver_flowcontrol_{name}", text, _FLOW, read(number))
    registry.read(
        "counter",
        "apiserver_flowcontrol_rejected_requests_total",
        "[BETA] Number of requests rejected by API Priority and Fairness subsystem",
        (*_FLOW, "reason"),
        rejected,
    )


def _add_histograms(registry: metrics.Registry, control: FlowControl) -> None:
    def waits() -> Iterable[tuple[Labels, Series]]:
        for (schema, level), counts in _counts(control):
            yield ("true", schema, level), _with(counts.waits, counts.quick)
            yield ("false", schema, level), counts.waits_in_vain

    def runs() -> Iterable[tuple[Labels, Series]]:
        for (schema, level), counts in _counts(control):
            yield (schema, level, "regular"), counts.runs
            yield (schema, level, "watch"), counts.watch_runs

    registry.add(
        _Histogram(
            "apiserver_flowcontrol_request_wait_duration_seconds",
            "[BETA] Length of time a request spent waiting in its queue",
            ("execute", *_FLOW),
            waits,
        )
    )
    registry.add(
        _Histogram(
            "apiserver_flowcontrol_request_execution_seconds",
            "[ALPHA] Duration of initial stage (for a WATCH) or any (for a non-WATCH) stage of request execution "
            + _IN_APF,
            (*_FLOW, "type"),
            runs,
        )
    )
    singles: tuple[tuple[str, str, Callable[[Counts], Series]], ...] = (
        ("work_estimated_seats",
         ("[ALPHA] Number of estimated seats (maximum of initial and final seats) associated with requests in API "
         "Priority and Fairness"), lambda c: _with(c.seats, c.quick)),
        ("request_queue_length_after_enqueue",
         ("[ALPHA] Length of queue in the API Priority and Fairness subsystem, as seen by each request after it is "
         "enqueued"), lambda c: c.lengths),
        ("watch_count_samples",
         "[ALPHA] count of watchers for mutating requests in API Priority and Fairness", lambda c: c.watches),
    )  # fmt: skip
    for name, text, series_of in singles:
        registry.add(_Histogram(f"apiserver_flowcontrol_{name}", text, _FLOW, _each(control, series_of)))


def _each(control: FlowControl, series_of: Callable[[Counts], Series]) -> Callable[[], Iterable[tuple[Labels, Series]]]:
    return lambda: [(key, series_of(counts)) for key, counts in _counts(control)]


def _with(series: Series, quick: int) -> Series:
    """With the requests that were answered at once: they had one seat and waited for nothing."""
    whole = Series(series.bounds)
    whole.counts = [series.counts[0] + quick, *series.counts[1:]]
    whole.sum = series.sum + (quick if series.bounds[0] == 1 else 0)
    return whole


def _add_levels(registry: metrics.Registry, control: FlowControl) -> None:
    def read(number: Callable[[Level], float]) -> Callable[[], Samples]:
        return lambda: [((level.name,), number(level)) for level in (*control.levels.values(), *control.leaving)]

    texts: tuple[tuple[str, str, Callable[[Level], float]], ...] = (
        ("nominal_limit_seats", "[BETA] Nominal number of execution seats configured for each priority level",
         lambda v: v.limits.nominal),
        ("lower_limit_seats",
         "[ALPHA] Configured lower bound on number of execution seats available to each priority level",
         lambda v: v.limits.lower),
        ("upper_limit_seats",
         "[ALPHA] Configured upper bound on number of execution seats available to each priority level",
         lambda v: v.limits.upper),
        ("current_limit_seats", "[ALPHA] current derived number of execution seats available to each priority level",
         lambda v: v.queues.limit),
        ("target_seats", "[ALPHA] Seat allocation targets", lambda v: v.target),
        ("demand_seats_average", "[ALPHA] Time-weighted average, over last adjustment period, of demand_seats",
         lambda v: v.smoothed.seen.average),
        ("demand_seats_stdev",
         "[ALPHA] Time-weighted standard deviation, over last adjustment period, of demand_seats",
         lambda v: v.smoothed.seen.deviation),
        ("demand_seats_high_watermark", "[ALPHA] High watermark, over last adjustment period, of demand_seats",
         lambda v: v.smoothed.seen.peak),
        ("demand_seats_smoothed", "[ALPHA] Smoothed seat demands", lambda v: v.smoothed.smooth),
        ("current_r", "[ALPHA] R(time of last change)", lambda v: v.queues.progress),
    )  # fmt: skip
    for name, text, number in texts:
        registry.read("gauge", f"apiserver_flowcontrol_{name}", text, _LEVEL, read(number))
    registry.read(
        "gauge",
        "apiserver_flowcontrol_seat_fair_frac",
        "[ALPHA] Fair fraction of server's concurrency to allocate to each priority level that can use it",
        (),
        lambda: [((), control.fair_fraction)],
    )
