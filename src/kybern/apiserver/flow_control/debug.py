"""/debug/api_priority_and_fairness: what the levels, queues and requests are, as aligned text.

Served by paths. Columns are those of a v1.36 server.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Sequence

from kybern.apiserver.flow_control.control import FlowControl
from kybern.apiserver.flow_control.level import Level, Seat
from kybern.apiserver.request import Request, Response

PREFIX = "/debug/api_priority_and_fairness/"
_LEVELS = ("PriorityLevelName", "ActiveQueues", "IsIdle", "IsQuiescing", "WaitingRequests", "ExecutingRequests",
           "DispatchedRequests", "RejectedRequests", "TimedoutRequests", "CancelledRequests")  # fmt: skip
_QUEUES = ("PriorityLevelName", "Index", "PendingRequests", "ExecutingRequests", "SeatsInUse", "NextDispatchR",
           "InitialSeatsSum", "MaxSeatsSum", "TotalWorkSum")  # fmt: skip
_REQUESTS = ("PriorityLevelName", "FlowSchemaName", "QueueIndex", "RequestIndexInQueue", "FlowDistingsher",
             "ArriveTime", "InitialSeats", "FinalSeats", "AdditionalLatency", "StartTime")  # fmt: skip
_DETAILS = ("UserName", "Verb", "APIPath", "Namespace", "Name", "APIVersion", "Resource", "SubResource")


def paths(control: FlowControl) -> dict[str, Callable[[Request], Response]]:
    """The handlers by their paths."""
    return {
        f"{PREFIX}dump_priority_levels": lambda _: _text(dump_levels(control)),
        f"{PREFIX}dump_queues": lambda _: _text(dump_queues(control)),
        f"{PREFIX}dump_requests": lambda r: _text(
            dump_requests(control, details=bool(r.flag("includeRequestDetails")))
        ),
    }


def dump_levels(control: FlowControl) -> str:
    leaving = {id(level) for level in control.leaving}
    return _aligned(_LEVELS, [_level_row(level, id(level) in leaving) for level in _all(control)])


def _level_row(level: Level, is_leaving: bool) -> list[str]:
    rejected: dict[str, int] = {}
    for counts in level.counts.values():
        for reason, number in counts.rejected.items():
            rejected[reason] = rejected.get(reason, 0) + number
    at_once = rejected.get("queue-full", 0) + rejected.get("concurrency-limit", 0)
    queues = level.queues
    return [
        level.name,
        str(sum(not queue.is_idle for queue in queues.queues)),
        str(not level.is_exempt and level.is_idle).lower(),
        str(is_leaving).lower(),
        *(str(n) for n in (queues.waiting, queues.running)),
        str(sum(counts.dispatched + counts.quick for counts in level.counts.values())),
        *(str(n) for n in (at_once, rejected.get("time-out", 0), rejected.get("cancelled", 0))),
    ]


def dump_queues(control: FlowControl) -> str:
    rows = []
    for level in _all(control):
        for queue in level.queues.queues:
            works = [ticket.work for ticket in queue.waiting]
            rows.append(
                [
                    level.name,
                    *(str(n) for n in (queue.index, len(queue.waiting), queue.running, queue.seats)),
                    f"{queue.next_start:.8f}ss",
                    str(sum(work.seats for work in works)),
                    str(sum(work.most for work in works)),
                    f"{queue.waiting_seconds:.8f}ss",
                ]
            )
    return _aligned(_QUEUES, rows)


def dump_requests(control: FlowControl, *, details: bool) -> str:
    now, wall = control.clock.monotonic(), control.clock.now()

    def moment(then: float) -> str:
        if then < 0:
            return ""
        return (wall - datetime.timedelta(seconds=now - then)).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")

    rows = []
    for level in _all(control):
        for seat in sorted(level.tickets, key=lambda s: s.ticket.arrived):
            rows.append(_request_row(level, seat, moment, details))
    return _aligned((*_REQUESTS, *_DETAILS) if details else _REQUESTS, rows)


def _request_row(level: Level, seat: Seat, moment: Callable[[float], str], details: bool) -> list[str]:
    ticket = seat.ticket
    request = ticket.about
    assert isinstance(request, Request)
    assert request.flow is not None
    queue = ticket.queue
    row = [
        level.name,
        request.flow.schema.name,
        str(queue.index if queue is not None else -1),
        str(queue.waiting.index(ticket) if queue is not None and ticket.started < 0 else -1),
        request.flow.name,
        moment(ticket.arrived),
        str(ticket.work.seats),
        str(ticket.work.final_seats),
        f"{ticket.work.extra * 1000:g}ms" if ticket.work.extra else "0s",
        moment(ticket.started),
    ]
    if details:
        info = request.info
        row += [request.user.name, info.verb, info.path]
        row += [info.namespace, info.name, info.version, info.plural, info.subresource]
    return row


def _all(control: FlowControl) -> Iterable[Level]:
    return [*(control.levels[name] for name in sorted(control.levels)), *control.leaving]


def _aligned(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns under each other, cells ended by commas but for the last."""
    table = [list(head), *([*row] for row in rows)]
    for row in table:
        row[:-1] = [f"{_plain(cell)}," for cell in row[:-1]]
        row[-1] = _plain(row[-1])
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    lines = [" ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Clients' words on one line."""
    return "".join(c if c.isprintable() and c != "," else "_" for c in text[:256])


def _text(text: str) -> Response:
    headers = (("X-Content-Type-Options", "nosniff"),)
    return Response(body=text.encode(), content_type="text/plain; charset=utf-8", headers=headers)
