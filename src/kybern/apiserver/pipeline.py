"""The ordered steps of a request, and its answer's dress.

Fed by wire/http1 (it is the `Application`), ends in handlers. Reads go through without a task being started: steps
are synchronous, and only those that must wait, and handlers that write or wait, return an awaitable. Whatever a step
raises becomes a Status.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar, cast

import structlog

from kybern.api import codec
from kybern.apiserver import audit, negotiate, pending, unrouted
from kybern.apiserver import info as request_info
from kybern.apiserver.aggregator import routes
from kybern.apiserver.aggregator.reconcile import Aggregator
from kybern.apiserver.handlers import dispatch, forms
from kybern.apiserver.handlers.context import Handlers
from kybern.apiserver.limits import Limits, is_long
from kybern.apiserver.metrics import Metrics
from kybern.apiserver.pending import Pending
from kybern.apiserver.request import (
    Answer,
    Answered,
    Audited,
    Request,
    Response,
    Resting,
    Sink,
    StreamResponse,
    UpgradeResponse,
)
from kybern.apiserver.slices import Slices
from kybern.machinery.status import ApiError
from kybern.wire.http1.answer import field_bytes

log = structlog.get_logger(__name__)

# Characters of all warnings of an answer. kube-apiserver: the same.
MAX_WARNINGS = 4096
_SHORT_WARNING = 256  # characters of each, where all are too long

# A step that must wait returns an awaitable; the steps after it run when that is done.
Step = Callable[[Request], Awaitable[None] | None]
PathHandler = Callable[[Request], Answer | Awaitable[Answer]]

T = TypeVar("T")
R = TypeVar("R", bound=Resting | None)

_MUTATING = frozenset({"create", "update", "patch", "delete", "deletecollection", "post", "put"})
# Asked also of a server that refuses new requests because it ends.
_ALWAYS_ANSWERED = ("/healthz", "/livez", "/readyz", "/metrics")
# Bytes that the kernel takes without making the client's slowness ours.
_QUICKLY_SENT = 64 * 1024
_NO_HEADERS: Mapping[str, str] = {}
_FIELDS = b"Audit-Id: %b\r\nCache-Control: no-cache, private\r\n"
_KEPT_FIELDS = b"Audit-Id: %b\r\n"  # of an answer that says itself how long it may be kept


@dataclass(frozen=True, slots=True)
class Paths:
    """What is served beside resources: exact paths, and prefixes (longest first)."""

    exact: dict[str, PathHandler]
    prefixes: Sequence[tuple[str, PathHandler]]

    def find(self, path: str) -> PathHandler | None:
        found = self.exact.get(path)
        if found is None and path.endswith("/") and len(path) > 1:
            found = self.exact.get(path[:-1])
        if found is not None:
            return found
        return next((handler for prefix, handler in self.prefixes if path.startswith(prefix)), None)


class Pipeline:
    """The application: `pipeline(request)` answers it."""

    def __init__(
        self,
        steps: Sequence[Step],
        handlers: Handlers,
        paths: Paths,
        metrics: Metrics,
        rng: random.Random,
        limits: Limits,
        slices: Slices,
        aggregator: Aggregator | None = None,
    ) -> None:
        self._steps = tuple(steps)
        self._handlers = handlers
        self._paths = paths
        self._metrics = metrics
        self._limits = limits
        self._slices = slices
        self._aggregator = aggregator
        # Random once, then counted: as unique, and a tenth of the time.
        self._audit_prefix = str(uuid.UUID(int=rng.getrandbits(128), version=4))[:24]
        self._served = 0
        self._is_refusing = False

    def refuse_new(self) -> None:
        """The server ends: requests that come now are told so."""
        self._is_refusing = True

    def __call__(self, request: Request) -> Answer | Awaitable[Answer]:
        request.began = time.perf_counter()
        request.audit_id = self._audit_id(request)
        try:
            info = request.info = request_info.parse(request)
            if self._is_refusing and not request.path.startswith(_ALWAYS_ANSWERED):
                return self._dress(request, _too_late())
            if "timeout" in request.query and not is_long(info):
                request.time_limit = self._limits.time_of(request)
            answer = self._go(request, 0)
        except Answered as early:
            return self._dress(request, early.response)
        except ApiError as error:
            answer = render(error, request)
        except Exception as error:
            answer = self._crashed(request, error)
        if type(answer) is Response:
            if request.flow is not None and request.seat is None:
                request.flow.counts.quick += 1
            return self._dress(request, answer)
        if isinstance(answer, (StreamResponse, UpgradeResponse)):
            return self._dress(request, answer)
        if request.seat is not None:  # of a heavy read that must wait after all: it takes one when it goes on
            request.seat.release()
            request.seat = None
        return self._later(request, cast("Awaitable[Answer]", answer))

    def _go(self, request: Request, first: int) -> Answer | Awaitable[Answer]:
        """The steps from the `first` on, and the handler."""
        for number, step in enumerate(self._steps[first:] if first else self._steps, first):
            try:
                waiting = step(request)
            except Pending as question:
                waiting = pending.settle(question, partial(step, request))
            if waiting is not None:
                return self._go_on(request, number + 1, waiting)
        try:
            answer = self._route(request)
        except Pending as question:
            answer = pending.settle(question, partial(self._route, request))
        if request.flow is None or isinstance(answer, (Response, StreamResponse, UpgradeResponse)):
            return answer
        return self._seated(request, answer)

    async def _seated(self, request: Request, answer: Awaitable[Answer]) -> Answer:
        """What takes time takes a seat first."""
        try:
            waiting = self._limits.enter(request)
            if waiting is not None:
                await waiting
        except BaseException:
            if asyncio.iscoroutine(answer):
                answer.close()
            raise
        return await answer

    async def _go_on(self, request: Request, following: int, waiting: Awaitable[None]) -> Answer:
        await waiting
        answer = self._go(request, following)
        return answer if isinstance(answer, (Response, StreamResponse, UpgradeResponse)) else await answer

    def _audit_id(self, request: Request) -> str:
        """The client's own, or the next of this server's, in the form of a UUID."""
        told = request.headers.get("audit-id")
        if told:
            return field_bytes(told[:64]).decode("latin-1")
        self._served += 1
        return f"{self._audit_prefix}{self._served:012x}"

    def _route(self, request: Request) -> Answer | Awaitable[Answer]:
        aggregator = self._aggregator
        if aggregator is not None and aggregator.remotes:
            remote = routes.find(aggregator.current(), request)
            if remote is not None:
                return routes.pass_on(request, remote, aggregator.backends)
        if request.info.is_resource:
            return dispatch.handle(self._handlers, request)
        path_handler = self._paths.find(request.path)
        if path_handler is None:
            raise unrouted.nowhere()
        return path_handler(request)

    async def _later(self, request: Request, waiting: Awaitable[Answer]) -> Answer:
        """Await a handler, within the limits of time and number."""
        if request.audit is not None:
            audit.enter(request.audit)
        info = request.info
        is_lasting = is_long(info)
        is_mutating = info.verb in _MUTATING
        answer: Answer | None = None
        if not is_lasting:
            self._metrics.inflight(is_mutating=is_mutating, step=1)
        try:
            if is_lasting:
                answer = await self._settled(request, waiting)
            else:
                async with asyncio.timeout(request.time_limit or self._limits.request_timeout):
                    level = request.flow.level.name if request.flow is not None else ""
                    answer = await self._slices.run(self._settled(request, waiting), level)
        except Answered as early:
            answer = early.response
        except ApiError as error:
            answer = render(error, request)
        except BaseExceptionGroup as group:
            first = _first_api_error(group)
            answer = render(first, request) if first is not None else self._crashed(request, group)
        except TimeoutError:
            late = ApiError.timeout("Timeout: request did not complete within the allotted timeout")
            answer = render(late, request)
        except Exception as error:
            answer = self._crashed(request, error)
        finally:
            if not is_lasting:
                self._metrics.inflight(is_mutating=is_mutating, step=-1)
            if answer is None and request.seat is not None:  # cancelled: the client has gone
                request.seat.release()
        return self._dress(request, answer)

    async def _settled(self, request: Request, waiting: Awaitable[Answer]) -> Answer:
        try:
            return await waiting
        except Pending as question:  # of a handler, which has written nothing yet
            return await pending.settle(question, partial(self._route, request))

    def _crashed(self, request: Request, error: BaseException) -> Response:
        """A fault of ours: said once in the log, and to the client without its inside."""
        about = {"method": request.method, "path": request.path, "audit_id": request.audit_id}
        request.has_crashed = True
        log.error("request failed", **about, exc_info=error)
        said = f"the request could not be served, see audit ID {request.audit_id} in the log"
        return render(ApiError.internal(said), request)

    def _dress(self, request: Request, answer: Answer) -> Answer:
        """The headers that every answer has; counts it, now or when it ends."""
        if request.audit is not None:
            answer = _audited(request.audit, request, answer)
        if isinstance(answer, UpgradeResponse):
            answer.run = self._followed(request, 101, answer.run)
            return answer
        fields = _FIELDS
        if answer.headers and any(name == "Cache-Control" for name, _ in answer.headers):
            fields = _KEPT_FIELDS
        answer.fields = fields % request.audit_id.encode("latin-1")
        if request.flow is not None:
            answer.fields += request.flow.fields
        if request.warnings:
            answer.headers += tuple(("Warning", f'299 - "{text}"') for text in _warnings(request.warnings))
        if isinstance(answer, StreamResponse):
            if answer.is_document:
                answer.run = self._told(request, answer, answer.run)
            else:
                answer.run = self._followed(request, answer.status, answer.run)
            return answer
        size = len(answer.body)
        self._metrics.finish(request, answer.status, size)
        if request.seat is not None:
            if size > _QUICKLY_SENT:
                answer.on_sent = request.seat.release
            else:
                request.seat.release()
        return answer

    def _followed(self, request: Request, status: int, run: Callable[[T], Awaitable[R]]) -> Callable[[T], Awaitable[R]]:
        """A stream that is counted while it lasts. A watch has a seat until it has told what there is."""

        async def follow(stream: T) -> R:
            line = self._metrics.begin_long(request)

            def end() -> None:
                line.running -= 1
                if request.seat is not None:
                    request.seat.release()
                self._metrics.finish(request, status, -1)

            try:
                if request.info.verb == "watch":
                    self._limits.admit(request)
                resting = await run(stream)
            except BaseException:
                end()
                raise
            if isinstance(resting, Resting):
                resting.at_end += (end,)
                if request.audit is None:
                    _forget(request)
            else:
                end()
            return resting

        return follow

    def _told(
        self, request: Request, answer: StreamResponse, run: Callable[[Sink], Awaitable[Resting | None]]
    ) -> Callable[[Sink], Awaitable[None]]:
        """A long document: within the limits of other answers, until its client has it."""

        async def tell(sink: Sink) -> None:
            self._metrics.inflight(is_mutating=False, step=1)
            try:
                async with asyncio.timeout(request.time_limit or self._limits.request_timeout):
                    await run(sink)
            except TimeoutError:
                sink.abort()  # its head is sent: all that is left to say is that it has no end
            finally:
                self._metrics.inflight(is_mutating=False, step=-1)
                if request.seat is not None:
                    request.seat.release()
                self._metrics.finish(request, answer.status, answer.size)

        return tell


def _forget(request: Request) -> None:
    """All that is asked no more of a watch that only waits: but for metrics, who has asked."""
    agent = request.headers.get("user-agent", "")
    request.headers = {"user-agent": agent} if agent else _NO_HEADERS
    request.certificates = ()
    if request.seat is not None:
        request.seat.release()
        request.seat = None


def _too_late() -> Response:
    """As kube-apiserver says it; that the connection ends is said by the listener."""
    told = b"The apiserver is shutting down, please try again later.\n"
    return Response(429, told, "text/plain; charset=utf-8", (("Retry-After", "5"),))


def _audited(record: Audited, request: Request, answer: Answer) -> Answer:
    if request.has_crashed and isinstance(answer, Response):
        return record.crash(answer)
    return record.finish(answer)


def _warnings(texts: Iterable[str]) -> Iterator[str]:
    """Each once, quoted, as long as they fit into what clients take for headers: long ones are cut if all do not.

    One that could break a header (a line end, a tab) is left out, as upstream does.
    """
    told = [text for text in dict.fromkeys(texts) if text and text.isprintable()]
    if sum(map(len, told)) > MAX_WARNINGS:
        told = [text[:_SHORT_WARNING] for text in told]
    used = 0
    for text in told:
        if used >= MAX_WARNINGS:
            return
        used += len(text)
        yield _quoted(text)


def _quoted(text: str) -> str:
    """A warning's text as RFC 7234 quotes it; in a header its UTF-8 stands byte by byte."""
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return quoted if quoted.isascii() else quoted.encode().decode("latin-1")


def _first_api_error(group: BaseExceptionGroup[BaseException]) -> ApiError | None:
    for error in group.exceptions:
        if isinstance(error, ApiError):
            return error
        if isinstance(error, BaseExceptionGroup):
            found = _first_api_error(error)
            if found is not None:
                return found
    return None


def render(error: ApiError, request: Request) -> Response:
    """The answer that tells an error, in the encoding its client accepts."""
    accepted = negotiate.for_status(request.headers.get("accept", ""))
    body = forms.encoded(codec.encode(error.status), accepted)
    return Response(error.code, body, accepted.content_type, error.headers)
