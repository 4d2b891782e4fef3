"""One client connection: requests out of bytes, answers into bytes, in order.

Fed by the transport; calls the application; lives in server's set of connections. Requests are taken one at
a time: what is pipelined behind one that must be waited for stays in a bounded buffer, so answers cannot
overtake. Answers that are ready at once are joined into one write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast

import structlog
from isal import isal_zlib

from kybern.machinery.status import ApiError
from kybern.wire.http1 import answer, body, head
from kybern.wire.http1.limits import Limits
from kybern.wire.http1.streams import GZIP_FRAME, GZIP_LEVEL, ChunkedSink, Gate, GzipSink, RawConnection
from kybern.wire.keepalive import apply_keepalive
from kybern.wire.message import Answer, Application, Request, Response, Resting, StreamResponse, UpgradeResponse

log = structlog.get_logger(__name__)

_TURN = 32  # pipelined requests answered before other connections get their turn
_JOIN = 64 * 1024  # bodies up to this are copied into one write with their head
_MAX_AHEAD = 64 * 1024  # bytes read ahead of the request being answered
_MAX_LINGER = 8 << 20  # bytes thrown away while a refused client still sends
_GZIP_FROM = 128 * 1024  # kube-apiserver: smaller answers are not worth compressing
_GZIP_AT_ONCE = 1 << 20  # bytes that are compressed in less than a millisecond
_GZIPPED = (("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding"))
_STREAM_GRACE = 2.0  # seconds a stream's `run` has to end by itself once its client is gone


class Host(Protocol):
    """What a connection needs of the server that it lives in."""

    limits: Limits
    connections: set[Connection]
    tasks: asyncio.TaskGroup  # in which answers that take time are made
    request_type: type[Any]
    application: Application[Any]
    date: bytes  # the header, as of now
    is_closing: bool  # each answer is the last of its connection


class Connection(asyncio.Protocol):
    """An asyncio protocol over one transport."""

    __slots__ = (
        "_block",
        "_busy",
        "_certificates",
        "_chunks",
        "_closing",
        "_fields",
        "_gate",
        "_is_document",
        "_is_tls",
        "_limits",
        "_line",
        "_lingering",
        "_loop",
        "_missing",
        "_on_sent",
        "_out",
        "_out_size",
        "_parts",
        "_peer",
        "_pending",
        "_raw",
        "_reading_paused",
        "_resting",
        "_resting_is_last",
        "_scanned",
        "_server",
        "_sink",
        "_task",
        "_transport",
        "deadline",
    )

    def __init__(self, server: Host, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._limits = server.limits
        self._loop = loop
        self._gate = Gate(loop)
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)  # set before anything else is called
        self._peer = ""
        self._certificates: tuple[bytes, ...] = ()
        self._is_tls = False
        self._pending: bytes | bytearray = b""  # read and not yet understood
        self._scanned = 0  # how much of `_pending` holds no end of a head
        self._line: head.Line | None = None  # of the request whose body is being read
        self._fields: head.Fields | None = None
        self._block = b""  # the field lines `_fields` came from: clients repeat them
        self._chunks: body.ChunkedBody | None = None
        self._parts: list[bytes] = []  # of a body with a length
        self._missing = 0  # bytes of that body
        self._out: list[bytes] = []
        self._out_size = 0
        self._task: asyncio.Task[None] | None = None  # answers the current request
        self._sink: ChunkedSink | None = None
        self._is_document = False  # what goes to the sink has an end, which is waited for
        self._resting: Resting | None = None  # the stream goes on without a task
        self._resting_is_last = False  # and the connection ends with it
        self._raw: RawConnection | None = None
        self._on_sent: Callable[[], None] | None = None  # of the answer that is being sent
        self._busy = False  # a request is being answered
        self._closing = False  # no further request is read
        self._lingering = 0  # bytes still thrown away, once refused
        self._reading_paused = False
        self.deadline = 0.0  # loop time at which the server's sweep cuts the connection; inf: never

    # -- what the transport tells ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if len(self._server.connections) >= self._limits.connections:
            self._closing = True
            self._transport.abort()
            return
        self._transport.set_write_buffer_limits(high=256 * 1024)
        apply_keepalive(transport)
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if isinstance(peer, tuple) else ""
        secured = transport.get_extra_info("ssl_object")
        self._is_tls = secured is not None
        if secured is not None:
            leaf = secured.getpeercert(binary_form=True)
            if leaf:
                self._certificates = (leaf,)
        self.deadline = self._loop.time() + self._limits.header_timeout
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self._closing = True
        self._gate.close()
        if self._on_sent is not None:
            self._tell_sent()
        if self._raw is not None:
            self._raw.feed_eof()
        if self._sink is not None:
            self._sink.connection_lost()
        if self._resting is not None:
            self._resting.end()
            self._resting = None
        if self._task is not None:
            if self._raw is not None or (self._sink is not None and self._sink.is_watched):
                self._loop.call_later(_STREAM_GRACE, self._task.cancel)
            else:
                self._task.cancel()
        self._pending = b""

    def eof_received(self) -> bool:
        if self._raw is not None:
            self._raw.feed_eof()
            return not self._is_tls  # plain TCP may still be written to
        return False

    def pause_writing(self) -> None:
        self._gate.shut()
        if self._raw is None:
            self._pause_reading()

    def resume_writing(self) -> None:
        self._gate.open()
        if self._on_sent is not None and not self._busy:
            self._tell_sent()
        if self._raw is None and not self._busy:
            self._advance()
        elif self._sink is not None and len(self._pending) <= _MAX_AHEAD:
            self._resume_reading()  # who does not read does not hear that a client has gone

    def data_received(self, data: bytes) -> None:
        if self._raw is not None:
            self._raw.feed(data)
            return
        if self._closing:
            self._lingering -= len(data)
            if self._lingering < 0:
                self._transport.abort()
            return
        if self._pending:
            if not isinstance(self._pending, bytearray):
                self._pending = bytearray(self._pending)
            self._pending += data
        else:
            self._pending = data
        if not self._busy and self._gate.is_open:
            self._advance()
        elif len(self._pending) > _MAX_AHEAD:
            self._pause_reading()

    def _pause_reading(self) -> None:
        if not self._reading_paused and not self._transport.is_closing():
            self._reading_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._reading_paused and not self._transport.is_closing():
            self._reading_paused = False
            self._transport.resume_reading()

    # -- taking requests ------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Take requests from what was read until one is incomplete or must be waited for."""
        turns = 0
        try:
            while not (self._busy or self._closing) and self._gate.is_open:
                if self._line is None and not (self._pending and self._take_head()):
                    break
                if (self._missing or self._chunks is not None) and not self._take_body():
                    break
                turns += 1
                if turns > _TURN:
                    self._flush()
                    self._loop.call_soon(self._go_on)
                    self._busy = True  # until then
                    break
                self._dispatch()
        except ApiError as fault:
            self._refuse(fault)
        self._flush()
        if not self._busy and self._gate.is_open:
            self._resume_reading()

    def _go_on(self) -> None:
        self._busy = False
        if self._closing:
            return
        self._dispatch()
        self._advance()

    def _take_head(self) -> bool:
        """Move a head from `_pending` into `_line` and `_fields`. False: not there yet."""
        data = self._pending
        if data[:1] == b"\r":  # RFC 9112 section 2.2: empty lines before a request are skipped
            start = 0
            while data[start : start + 2] == b"\r\n":
                start += 2
            data = self._pending = data[start:]
            self._scanned = 0
        end = data.find(b"\r\n\r\n", self._scanned)
        if end < 0 or end > self._limits.header_bytes:
            if len(data) > self._limits.header_bytes:
                raise ApiError.make(431, "RequestHeaderFieldsTooLarge", "request header is too large")
            first = data.find(b"\n", 0, 8192)
            if first == 0 or (first > 0 and data[first - 1] != 0x0D):
                raise ApiError.bad_request("malformed HTTP request line")
            if data and not self._scanned:
                self.deadline = self._loop.time() + self._limits.header_timeout
            self._scanned = max(0, len(data) - 3)
            return False
        line_end = data.find(b"\r\n", 0, end)
        if line_end < 0:
            line_end = end
        line = head.parse_line(bytes(data[:line_end]))
        block = bytes(data[line_end + 2 : end])
        if line.minor == 0 or self._fields is None or block != self._block:
            self._fields = head.parse_fields(block, line.minor, self._limits.header_fields)
            self._block = block if line.minor else b""
        fields = self._fields
        self._line = line
        data = data[end + 4 :]
        self._pending = data
        self._scanned = 0
        length = fields.length
        if length:
            self._start_body(length, fields, has_some=bool(data))
        return True

    def _start_body(self, length: int, fields: head.Fields, *, has_some: bool) -> None:
        if length > self._limits.body:
            raise ApiError.too_large(f"Request entity too large: limit is {self._limits.body}")
        self.deadline = self._loop.time() + self._limits.body_timeout
        if length == head.CHUNKED:
            self._chunks = body.ChunkedBody(self._limits.body)
        else:
            self._missing = length
        if fields.expects_continue and not has_some:
            self._out.append(answer.CONTINUE)

    def _take_body(self) -> bool:
        """Move bytes of a body that is not complete from `_pending`. False: more to come."""
        if self._missing:
            data = self._pending
            if len(data) <= self._missing:
                self._parts.append(bytes(data))
                self._missing -= len(data)
                self._pending = b""
            else:
                self._parts.append(bytes(data[: self._missing]))
                self._pending = data[self._missing :]
                self._missing = 0
            return not self._missing
        if self._chunks is not None:
            try:
                self._chunks.feed(bytes(self._pending))
            except body.BadChunk as fault:
                raise ApiError.bad_request(f"malformed chunked encoding: {fault}") from None
            except body.BodyTooLarge:
                raise ApiError.too_large(f"Request entity too large: limit is {self._limits.body}") from None
            self._pending = b""
            if not self._chunks.done:
                return False
            self._parts, self._pending = self._chunks.parts, self._chunks.rest
            self._chunks = None
        return True

    # -- answering ------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Hand the request to the application and write its answer, or wait for it in a task."""
        line, fields = self._line, self._fields
        assert line is not None
        assert fields is not None
        parts, self._parts = self._parts, []
        request = self._server.request_type(
            line.method,
            line.path,
            line.target,
            line.query,
            fields.headers,
            b"".join(parts) if parts else b"",
            self._peer,
            self._certificates,
        )
        answered = self._call(request)
        if type(answered) is Response:
            self._on_sent = answered.on_sent
            if not self._is_compressible(answered):
                self._send(answered)
                return
        self._busy = True
        self.deadline = float("inf")
        self._flush()
        self._task = self._server.tasks.create_task(self._finish(answered), name=f"{line.method} {line.path}"[:200])

    def _call(self, request: Request) -> Answer | Awaitable[Answer]:
        try:
            return self._server.application(request)
        except ApiError as fault:
            return answer.response_of(fault)
        except Exception:  # the last resort: one bad request must not end the connection's siblings
            log.exception("application failed", method=request.method, path=request.path)
            return answer.response_of(ApiError.internal("the request could not be handled"))

    async def _finish(self, answered: Answer | Awaitable[Answer]) -> None:
        """The task of one request: wait for its answer, send it, and let the next one in."""
        try:
            try:
                if not isinstance(answered, (Response, StreamResponse, UpgradeResponse)):
                    answered = await answered
                if isinstance(answered, Response):
                    self._on_sent = answered.on_sent
                    if self._is_compressible(answered):
                        answered = await self._compress(answered)
            except ApiError as fault:
                answered = answer.response_of(fault)
            except Exception:  # as in _call
                log.exception("handler failed", target=self._line and self._line.path)
                answered = answer.response_of(ApiError.internal("the request could not be handled"))
            if isinstance(answered, Response):
                self._send(answered)
            elif isinstance(answered, StreamResponse):
                await self._stream(answered)
            else:
                await self._upgrade(answered)
        finally:
            self._task = None
            self._busy = self._resting is not None
        if self._busy:
            return
        if self._gate.is_open and self._raw is None:
            self._advance()  # flushes
        else:
            self._flush()

    def _is_compressible(self, response: Response) -> bool:
        if len(response.body) < _GZIP_FROM or self._fields is None or not self._fields.accepts_gzip:
            return False
        return not any(name.lower() == "content-encoding" for name, _ in response.headers)

    async def _compress(self, response: Response) -> Response:
        if len(response.body) <= _GZIP_AT_ONCE:
            packed = isal_zlib.compress(response.body, GZIP_LEVEL, GZIP_FRAME)
        else:
            packed = await asyncio.to_thread(isal_zlib.compress, response.body, GZIP_LEVEL, GZIP_FRAME)
        return Response(response.status, packed, response.content_type, (*response.headers, *_GZIPPED), response.fields)

    def _is_last(self) -> bool:
        """The connection ends with this answer."""
        line, fields = self._line, self._fields
        return self._server.is_closing or line is None or line.minor == 0 or fields is None or fields.has_close

    def _send(self, response: Response) -> None:
        close = self._is_last()
        self._out.append(answer.render_response(response, self._server.date, close=close))
        payload = response.body
        if payload and not self._is_bodiless(response.status):
            self._out.append(payload)
            self._out_size += len(payload)
            if self._out_size > _JOIN:
                self._flush()
        self._next(close=close)

    def _is_bodiless(self, status: int) -> bool:
        return (self._line is not None and self._line.method == "HEAD") or answer.is_bodiless(status)

    def _next(self, *, close: bool) -> None:
        """One answer is complete."""
        self._line = None
        self.deadline = self._loop.time() + self._limits.idle_timeout
        if self._on_sent is not None:
            self._flush()
            if self._gate.is_open or self._gate.closed:
                self._tell_sent()
        if close:
            self._flush()
            self._end()

    def _tell_sent(self) -> None:
        told, self._on_sent = self._on_sent, None
        assert told is not None
        told()

    def _flush(self) -> None:
        out = self._out
        if not out:
            return
        if not self._gate.closed:
            if self._out_size <= _JOIN:
                self._transport.write(out[0] if len(out) == 1 else b"".join(out))
            else:
                self._transport.writelines(out)
        self._out = []
        self._out_size = 0

    async def _stream(self, response: StreamResponse) -> None:
        assert self._line is not None
        is_http11 = self._line.minor == 1
        close = self._is_last()
        is_packed = response.is_document and self._fields is not None and self._fields.accepts_gzip
        if is_packed:
            response.headers += _GZIPPED
        self._out.append(answer.render_stream(response, self._server.date, chunked=is_http11, close=close))
        self._flush()
        sink = ChunkedSink(self._transport, self._gate, chunked=is_http11, is_head=self._line.method == "HEAD")
        self._sink, self._is_document = sink, response.is_document
        if self._gate.closed:
            sink.connection_lost()
        packed = GzipSink(sink) if is_packed else None
        resting: Resting | None = None
        try:
            resting = await response.run(packed or sink)
            if packed is not None:
                packed.finish()
        except asyncio.CancelledError:
            if response.is_document:
                sink.abort()
            else:
                sink.finish()  # the server stops: what was sent is whole
                self._end()
            raise
        except Exception:  # as in _call; the client sees a body without its end
            log.exception("stream failed", path=self._line.path)
            sink.abort()
            return
        finally:
            if resting is None:
                self._sink, self._is_document = None, False
        if resting is None:
            sink.finish()
            self._next(close=close or self._is_last())
        elif self._gate.closed:
            resting.end()
        else:
            self._rest(resting, is_last=close)

    def _rest(self, resting: Resting, *, is_last: bool) -> None:
        """Let go of what only a request needs: such a stream may last for an hour, and there may be ten thousand."""
        self._resting = resting
        self._resting_is_last = is_last
        self.deadline = resting.deadline
        self._line = self._fields = None
        self._block = b""

    def _end_resting(self) -> None:
        """The body is whole, and the next request may come."""
        resting, sink = self._resting, self._sink
        assert resting is not None
        assert sink is not None
        self._resting = self._sink = None
        self._busy = False
        resting.end()
        sink.finish()
        self._next(close=self._resting_is_last or self._server.is_closing)
        if self._gate.is_open:
            self._advance()

    async def _upgrade(self, response: UpgradeResponse) -> None:
        assert self._line is not None
        self._out.append(answer.render_upgrade(response, self._server.date))
        self._flush()
        first, self._pending = bytes(self._pending), b""
        raw = RawConnection(self._transport, self._gate, first)
        self._raw = raw
        self._reading_paused = self._reading_paused and not self._transport.is_closing()
        self._resume_reading()
        try:
            await response.run(raw)
        except ConnectionError:
            pass  # one side went away: the ordinary end of a stream
        except Exception:  # as in _call
            log.exception("upgraded connection failed", path=self._line.path)
        finally:
            self._closing = True
            self._transport.close()

    # -- ending ---------------------------------------------------------------------------------------

    def _refuse(self, fault: ApiError) -> None:
        """Answer a request that cannot be read, and end: where the next one starts is not known.

        What the client still sends is swallowed for a moment: closing with unread bytes resets the connection, and
        the client might never see the answer.
        """
        response = answer.response_of(fault)
        self._out += [answer.render_response(response, self._server.date, close=True), response.body]
        self._flush()
        self._closing = True
        self._pending = b""
        self._lingering = _MAX_LINGER
        self.deadline = self._loop.time() + self._limits.linger
        self._resume_reading()

    def _end(self) -> None:
        """Close once what was written is sent."""
        self._closing = True
        self._pending = b""
        self._transport.close()

    def expire(self) -> None:
        """The deadline has passed: called by the server's sweep."""
        if self._resting is not None:
            self._resting.at_deadline()
            self._end_resting()
        elif self._closing or not self._gate.is_open:
            self._transport.abort()
        elif self._line is None and not self._pending:
            self._end()
        else:
            self._refuse(ApiError.make(408, "Timeout", "the request was not received in time"))

    @property
    def is_answering(self) -> bool:
        """A request is under way, and its answer is no stream."""
        is_stream = self._raw is not None or (self._sink is not None and not self._is_document)
        return not is_stream and not self._closing and (self._busy or self._line is not None)

    def shut_down(self) -> None:
        """The server stops: an idle connection closes, a request under way is finished, a stream goes on for now."""
        if not self._busy and self._line is None and not self._pending:
            self._end()

    def end_stream(self) -> None:
        """A stream ends now."""
        if self._resting is not None:
            self._end_resting()
        elif (self._sink is not None or self._raw is not None) and not self._is_document and self._task is not None:
            self._task.cancel()

    def abort(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._transport.abort()
