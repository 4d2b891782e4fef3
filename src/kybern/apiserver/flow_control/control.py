"""The step of the pipeline between authentication and authorization: run, wait, or be refused.

Reads FlowSchemas and PriorityLevelConfigurations from the watch cache; upkeep keeps those and the seats as they must
be. What a request is classified as is remembered, so that a read which is answered at once pays for one look-up: it
takes no seat, because it is over before anybody else could want one. What takes time takes a Seat.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any

from kybern.apiserver.flow_control import bootstrap, classify, shares, shuffle, work
from kybern.apiserver.flow_control.level import Counts, Level, Seat
from kybern.apiserver.flow_control.queues import Rejected
from kybern.apiserver.flow_control.turns import Turns
from kybern.apiserver.registry.registry import Objects, Registry
from kybern.apiserver.registry.resource_store import ResourceStore
from kybern.apiserver.request import LONG_SUBRESOURCES, Answered, Request, Response
from kybern.machinery.clock import Clock
from kybern.wire.http1.answer import render_fields

SCHEMAS = "flowschemas.flowcontrol.apiserver.k8s.io"
LEVELS = "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io"
# Classifications kept; anybody may send new paths, so they are forgotten all at once.
_KEPT = 32768  # five thousand nodes ask in five ways
_WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
_RETRY_SECONDS = 1
# Refusals of one flow a second that are told at once, and how many may wait to be told.
_PATIENT = 50
_MOST_HELD_BACK = 2000
_REFUSED = b"Too many requests, please try again later.\n"


@dataclass(eq=False, slots=True)
class Flow:
    """What requests of one kind and one user are classified as."""

    schema: classify.Schema
    level: Level
    name: str  # what tells it from other flows of the schema
    hand: tuple[int, ...]
    counts: Counts
    fields: bytes  # header lines of every answer
    is_exempt: bool
    verb: str  # "list" (and watch), "write", "": how its work is told
    refused_in: int = 0  # the last second in which there were refusals
    refusals: int = 0  # in that second


class FlowControl:
    """Priority and fairness of one server."""

    def __init__(self, registry: Registry, clock: Clock, total: int, request_timeout: float) -> None:
        self.clock = clock
        self.total = total
        self.turns = Turns()
        self.levels: dict[str, Level] = {}
        self.leaving: list[Level] = []  # deleted, with requests under way
        self.schemas: list[classify.Schema] = []
        self.fair_fraction = 0.0
        # Upstream: a quarter of the time that a request has may be spent waiting.
        self._patience = request_timeout / 4
        self._objects: Objects = registry.objects
        self._registry = registry
        self._schema_cache = registry.objects.stores[SCHEMAS].cache
        self._level_cache = registry.objects.stores[LEVELS].cache
        self._seen = (-1, -1)
        self._flows: dict[tuple[Any, ...], Flow] = {}
        self._held_back = 0  # refusals that wait to be told

    # -- the step ------------------------------------------------------------------------------------------------

    def __call__(self, request: Request) -> Awaitable[None] | None:
        """None: go on. An awaitable: go on when it is done; it raises Answered 429."""
        info = request.info
        if info.subresource in LONG_SUBRESOURCES:
            return None  # they last as long as clients want, and hold no seat
        if self._schema_cache.changed_at != self._seen[0] or self._level_cache.changed_at != self._seen[1]:
            self.reload()
        kept = info.findings.flow
        if kept is not None and kept[0] is self._flows and kept[1] is request.user:
            flow = kept[2]
        else:
            flow = self._flow_of(request)
        request.flow = flow
        if flow.is_exempt:
            return None
        if flow.verb == "list" and info.verb == "list":
            wanted = self._work_of_list(request, flow)
            if wanted.seats > 1:
                return self._begin_heavy(request, flow, wanted)
        return None if flow.level.queues.can_start else self._enter(request, flow, self._work_of(request, flow))

    def enter(self, request: Request) -> Awaitable[None] | None:
        """A request that was let through takes time: it takes a seat, and waits for it where there is none any more.

        To be called from the coroutine that also releases the seat.
        """
        flow = request.flow
        if flow is None or request.seat is not None:
            return None
        wanted = work.ONE if flow.is_exempt else self._work_of(request, flow)
        if flow.is_exempt or flow.level.queues.has_room(wanted.most):
            request.seat = Seat(flow.level, flow.counts, flow.hand, wanted, request, self.clock)
            request.seat.admit()
            return None
        return self._enter(request, flow, wanted)

    def admit(self, request: Request) -> None:
        """As `enter`, but it waits for nothing: the answer has begun."""
        flow = request.flow
        if flow is not None and request.seat is None:
            wanted = work.ONE if flow.is_exempt else self._work_of(request, flow)
            request.seat = Seat(flow.level, flow.counts, flow.hand, wanted, request, self.clock)
            request.seat.admit()

    def _begin_heavy(self, request: Request, flow: Flow, wanted: work.Work) -> Awaitable[None] | None:
        """Its seat is taken until the answer is sent: what waits to be sent takes memory."""
        if flow.level.queues.has_room(wanted.most) and self.turns.take_now():
            request.seat = Seat(flow.level, flow.counts, flow.hand, wanted, request, self.clock)
            request.seat.admit()
            return None
        return self._enter(request, flow, wanted, is_heavy=True)

    async def _enter(self, request: Request, flow: Flow, wanted: work.Work, *, is_heavy: bool = False) -> None:
        """Take a seat, sooner or later. Raises Answered 429."""
        seat = Seat(flow.level, flow.counts, flow.hand, wanted, request, self.clock)
        try:
            is_running = seat.join()
        except Rejected:
            await self._hold_back(flow)
            raise Answered(refusal()) from None
        if not is_running:
            since = time.perf_counter()
            await self._wait(seat)
            request.queued += time.perf_counter() - since
        request.seat = seat
        if is_heavy:
            await self.turns.take(flow.level.name)

    async def _hold_back(self, flow: Flow) -> None:
        """Clients that are refused and come again at once, many times, hear of the next refusal after a while.

        Otherwise the refusals alone would keep the loop from everybody else. Those who wait as they are told to
        (Retry-After) are too few a second to be held back.
        """
        second = int(self.clock.monotonic())
        if flow.refused_in != second:
            flow.refused_in, flow.refusals = second, 0
        flow.refusals += 1
        if flow.refusals > _PATIENT and self._held_back < _MOST_HELD_BACK:
            self._held_back += 1
            try:
                # Spread over a second: they would all come again in one turn of the loop.
                await asyncio.sleep(_RETRY_SECONDS + flow.refusals % 64 / 64)
            finally:
                self._held_back -= 1

    async def _wait(self, seat: Seat) -> None:
        seat.waiter = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self._patience):
                await seat.waiter
        except TimeoutError:
            if seat.is_running:
                return
            seat.give_up("time-out")
            raise Answered(refusal()) from None
        except asyncio.CancelledError:
            if seat.is_running:
                seat.release()
            else:
                seat.give_up("cancelled")
            raise

    # -- what a request is ---------------------------------------------------------------------------------------

    def _flow_of(self, request: Request) -> Flow:
        """What was found out before about this user and anything like this request."""
        info, user = request.info, request.user
        where = (info.plural, info.subresource, info.namespace) if info.is_resource else (info.path,)
        key = (user.name, user.groups, info.verb, info.group, info.version, where)
        flow = self._flows.get(key)
        if flow is None:
            flow = self._classified(request)
            if len(self._flows) >= _KEPT:
                self._flows.clear()
            self._flows[key] = flow
        info.findings.flow = (self._flows, user, flow)
        return flow

    def _classified(self, request: Request) -> Flow:
        info = request.info
        schema = classify.classify(self.schemas, request.user, info)
        level = self.levels[schema.level]
        name = schema.flow_of(request.user, info)
        count = len(level.queues.queues)
        hand = shuffle.deal(shuffle.fingerprint(schema.name, name), count, level.hand) if count else ()
        kind = ""
        if info.is_resource and (info.group, info.version, info.plural) in self._registry.by_path:
            kind = "list" if info.verb in ("list", "watch") else "write" if info.verb in _WRITES else ""
        fields = render_fields(
            (("X-Kubernetes-Pf-Flowschema-Uid", schema.uid), ("X-Kubernetes-Pf-Prioritylevel-Uid", level.uid))
        )
        return Flow(schema, level, name, hand, level.counts_of(schema.name), fields, level.is_exempt, kind)

    def _work_of(self, request: Request, flow: Flow) -> work.Work:
        if flow.verb == "write":
            info = request.info
            served = self._registry.get(info.group, info.version, info.plural)
            watches = served.store.hub.listening(info.namespace) if served is not None else 0
            flow.counts.watches.observe(watches)
            return work.of_write(watches, flow.level.most_seats)
        return self._work_of_list(request, flow) if flow.verb == "list" else work.ONE

    def _work_of_list(self, request: Request, flow: Flow) -> work.Work:
        info = request.info
        served = self._registry.get(info.group, info.version, info.plural)
        if served is None or info.name or served.store.cache.size < work.BYTES_OF_A_SEAT:
            return work.ONE
        seats = _seats_of_list(request, served.store, flow.level.most_seats)
        return work.Work(seats) if seats > 1 else work.ONE

    # -- configuration -------------------------------------------------------------------------------------------

    def reload(self) -> None:
        """Take the objects as they are now."""
        self._seen = (self._schema_cache.changed_at, self._level_cache.changed_at)
        levels = bootstrap.with_mandatory(self._objects.list(LEVELS), bootstrap.MANDATORY_LEVELS)
        schemas = bootstrap.with_mandatory(self._objects.list(SCHEMAS), bootstrap.MANDATORY_SCHEMAS)
        by_name = {level.metadata.name: level for level in levels}
        for name, obj in by_name.items():
            known = self.levels.get(name)
            if known is None:
                self.levels[name] = Level(obj, self.clock)
            else:
                known.apply(obj)
        for name in [n for n in self.levels if n not in by_name]:
            self.leaving.append(self.levels.pop(name))
        self.leaving = [level for level in self.leaving if not level.is_idle]
        for name, limits in shares.plan_limits(by_name, self.total).items():
            self.levels[name].entitle(limits)
        self.schemas = classify.compile_schemas(schemas, by_name)
        self._flows = {}  # another one: what was kept with the old one is of no use

    def adjust(self) -> None:
        """Move seats to where they were asked for in the last period."""
        if not self.levels:
            self.reload()
        now = self.clock.monotonic()
        for level in self.levels.values():
            level.smoothed = level.smoothed.after(level.demand.take(now))
        limits: Mapping[str, shares.Limits] = {name: level.limits for name, level in self.levels.items()}
        adjusted = shares.plan_adjustment(limits, {n: lv.smoothed for n, lv in self.levels.items()}, self.total)
        for name, level in self.levels.items():
            level.target = adjusted.targets[name]
            level.resize(adjusted.limits[name])
        self.fair_fraction = adjusted.fair_fraction


def _seats_of_list(request: Request, store: ResourceStore, most: int) -> int:
    query = request.query
    is_new = query.get("resourceVersion", [""])[0] not in ("", "0") and "sendInitialEvents" not in query
    if is_new and request.info.verb == "watch":
        return 1  # it starts with what is new
    size, count = store.cache.size, len(store.cache)
    namespace = request.info.namespace
    if namespace and count:
        here = store.cache.count(namespace)
        size, count = size * here // count, here
    limit = query.get("limit", ["0"])[0]
    return work.of_list(size, count, int(limit) if limit.isascii() and limit.isdigit() else 0, most)


def refusal() -> Response:
    """Try again, in a second."""
    headers = (("Retry-After", str(_RETRY_SECONDS)), ("X-Content-Type-Options", "nosniff"))
    return Response(429, _REFUSED, "text/plain; charset=utf-8", headers)
