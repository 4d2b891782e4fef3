"""TLS of a server's connections, straight on their sockets: what is written is encrypted into the kernel.

Used by http1/server, whose connections get a `SecureTransport`; contexts come from tls. uvloop's own TLS puts
buffers and a second transport between protocol and socket: three times the memory of a connection that waits, and more
CPU a request (docs/decisions/0140-tls-on-the-socket.md).
Promise: whoever comes waits for few others: handshakes have their turns, a few in one of the loop, in the order in
which clients have spoken, so that ten thousand who come back at once do not keep the others from their answers.
Where they are more than can be let in before they lose patience, the last come first: of those who have waited long,
each would leave while its handshake is under way, come back, and cost another one.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any

_RECORD = 16 * 1024  # the most that one TLS record carries
_READ_TURN = 8  # records taken from a client before others have their turn
_SLICE = 64 * 1024  # how far a write that the kernel stopped is tried again
_WRITE_TURN = 16  # slices given to the kernel before others have their turn
_ACCEPT_TURN = 8  # connections taken in a turn of the loop
_HANDSHAKE_TURN = 4  # handshakes begun in a turn of the loop: half a millisecond each
_LATE_SECONDS = 3.0  # that clients wait before those who came last go first (client-go leaves after ten)
_GONE_TURN = 64  # clients who are found to have gone in a turn of the loop
_ESTABLISHED = 1  # tcp(7), TCP_INFO: the first byte, its state
_LINGER_SECONDS = 5.0  # for a client to end its side after we have ended ours
_NO_ROOM_SECONDS = 0.5  # until accepting is tried again, when there are no more file descriptors
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

Factory = Callable[[], asyncio.Protocol]


class SecureListener:
    """Accepts on bound sockets, and makes a protocol of `factory` for each client whose handshake succeeds."""

    def __init__(
        self,
        sockets: tuple[socket.socket, ...],
        context: ssl.SSLContext,
        factory: Factory,
        *,
        most_waiting: int,
        handshake_timeout: float,
    ) -> None:
        self.sockets = sockets
        self.context = context
        self.factory = factory
        self.handshaking: set[SecureTransport] = set()  # clients who are not through yet
        self.handshake_timeout = handshake_timeout
        # Those of them who have spoken but had no turn yet, and since when.
        self._speaking: deque[tuple[SecureTransport, float]] = deque()
        self.late_seconds = _LATE_SECONDS
        self._most_waiting = most_waiting
        self._loop = asyncio.get_running_loop()
        self._is_closed = False
        for listening in sockets:
            listening.setblocking(False)
            self._loop.add_reader(listening.fileno(), self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_ACCEPT_TURN):
            try:
                accepted, _address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                # The listener stays readable: without a pause the loop would turn for nothing.
                self._loop.remove_reader(listening.fileno())
                self._loop.call_later(_NO_ROOM_SECONDS, self._accept_again, listening)
                return
            if len(self.handshaking) >= self._most_waiting:
                accepted.close()
                continue
            try:
                SecureTransport(self._loop, accepted, self)
            except OSError:  # gone before we looked
                accepted.close()

    def _accept_again(self, listening: socket.socket) -> None:
        if not self._is_closed:
            self._loop.add_reader(listening.fileno(), self._accept, listening)

    def wait_turn(self, transport: SecureTransport) -> None:
        """A client has begun to speak."""
        self._speaking.append((transport, self._loop.time()))
        if len(self._speaking) == 1:
            self._loop.call_soon(self._take_turns)

    def _take_turns(self) -> None:
        now, waiting = self._loop.time(), self._speaking
        for _ in range(_GONE_TURN):
            if not waiting or waiting[0][0].has_client:
                break
            waiting.popleft()[0].abort()
        for _ in range(min(_HANDSHAKE_TURN, len(waiting))):
            is_late = now - waiting[0][1] > self.late_seconds
            transport, since = waiting.pop() if is_late else waiting.popleft()
            transport.deadline += now - since  # while it waited for us its time stood still
            transport.begin()
        if waiting:
            self._loop.call_soon(self._take_turns)

    def expire(self, now: float) -> None:
        """Cut those who have not come through their handshake in time (loop time)."""
        waiting = {transport for transport, _ in self._speaking}
        for transport in [t for t in self.handshaking if t.deadline < now and t not in waiting]:
            transport.expire()

    def close(self) -> None:
        """Listen no longer. Who has come through is left alone."""
        if self._is_closed:
            return
        self._is_closed = True
        for listening in self.sockets:
            self._loop.remove_reader(listening.fileno())
            listening.close()
        for transport in list(self.handshaking):
            transport.abort()


class SecureTransport(asyncio.Transport):
    """One connection. `write` encrypts and sends at once; only what the kernel does not take is kept."""

    __slots__ = (
        "_has_peer",
        "_high",
        "_is_closing",
        "_is_ended",
        "_is_full",
        "_is_reading",
        "_listener",
        "_loop",
        "_protocol",
        "_socket",
        "_unsent",
        "_unsent_size",
        "deadline",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, accepted: socket.socket, listener: SecureListener) -> None:
        """Begins the handshake. Raises OSError when the client has gone already."""
        self._loop = loop
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = listener.context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
        self._listener: SecureListener | None = listener  # until the handshake is over
        self._protocol: Any = None  # asyncio.Protocol, from the end of the handshake to the end of the connection
        self._unsent: deque[memoryview] | None = None
        self._unsent_size = 0
        self._high = 64 * 1024
        self._is_full = False  # the protocol was told to pause
        self._is_reading = True
        self._has_peer = True  # who may still be sending
        self._is_closing = False
        self._is_ended = False  # no byte passes any more
        self.deadline = loop.time() + listener.handshake_timeout
        listener.handshaking.add(self)
        loop.add_reader(self._socket.fileno(), self._hear)

    def _hear(self) -> None:
        assert self._listener is not None
        self._loop.remove_reader(self._socket.fileno())  # until it is its turn
        self._listener.wait_turn(self)

    def begin(self) -> None:
        """Its turn has come."""
        if not self.has_client:
            self.abort()
        elif self._listener is not None:
            self._loop.add_reader(self._socket.fileno(), self._shake_hands)
            self._shake_hands()

    def _shake_hands(self) -> None:
        """A step of the handshake, with what the client has said; the first is the one that costs."""
        listener = self._listener
        assert listener is not None
        try:
            self._socket.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError:  # an SSLError too: a client that does not speak TLS, or shows a wrong certificate
            self.abort()
            return
        self._listener = None
        listener.handshaking.discard(self)
        self._protocol = listener.factory()
        self._loop.add_reader(self._socket.fileno(), self._take)
        self._protocol.connection_made(self)

    @property
    def has_client(self) -> bool:
        """Whether it is still there; who has no patience comes back soon, and others should not wait for this one."""
        try:
            return self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED
        except OSError:
            return False

    def expire(self) -> None:
        """The time for the handshake is up; what came while the loop was busy with others still counts."""
        self._shake_hands()
        if self._listener is not None:
            self.abort()

    # -- reading -------------------------------------------------------------------------------------------------

    def _take(self) -> None:
        for _ in range(_READ_TURN):
            try:
                data = self._socket.recv(_RECORD)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError as error:
                self._end(error)
                return
            try:
                if not data:
                    self._protocol.eof_received()  # over TLS nobody answers after the end
                    self._finish(has_peer=False)
                    return
                self._protocol.data_received(data)
            except Exception as error:  # as asyncio's transports: a fault of the protocol ends its connection
                self._fail(error)
                return
            if len(data) < _RECORD or not self._is_reading or self._is_closing:
                return  # the rest, if any, wakes us again

    def is_reading(self) -> bool:
        return self._is_reading and not self._is_closing

    def pause_reading(self) -> None:
        if self._is_reading and not self._is_closing:
            self._is_reading = False
            self._loop.remove_reader(self._socket.fileno())

    def resume_reading(self) -> None:
        if not self._is_reading and not self._is_closing:
            self._is_reading = True
            self._loop.add_reader(self._socket.fileno(), self._take)

    # -- writing -------------------------------------------------------------------------------------------------

    def write(self, data: Any) -> None:
        if self._is_closing or not data:
            return
        size = len(data)
        if self._unsent is None:
            try:
                if size <= _RECORD:
                    self._socket.send(data)  # a record goes whole or not at all
                    return
                rest = self._send_slices(memoryview(data), size)
                if rest is None:
                    return
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                rest = memoryview(data)
            except OSError as error:
                self._end(error)
                return
            self._unsent = deque((rest,))
            self._loop.add_writer(self._socket.fileno(), self._go_on)
            size = len(rest)
        else:
            self._unsent.append(memoryview(data))
        self._unsent_size += size
        if self._unsent_size > self._high and not self._is_full:
            self._is_full = True
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def _send_slices(self, data: memoryview, most: int) -> memoryview | None:
        """What the kernel did not take of `data`; `most` bytes are tried. A slice that it stopped is tried whole again.

        (OpenSSL remembers how much of it has gone, and wants to be called with no less.)
        """
        sent = 0
        try:
            while sent < most:
                sent += self._socket.send(data[sent : sent + _SLICE])
                if sent >= len(data):
                    return None
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        return data[sent:]

    def _go_on(self) -> None:
        """The kernel takes bytes again."""
        waiting = self._unsent
        assert waiting is not None
        turn = _WRITE_TURN * _SLICE
        try:
            while waiting and turn > 0:
                first = waiting[0]
                rest = self._send_slices(first, turn)
                gone = len(first) - (len(rest) if rest is not None else 0)
                self._unsent_size -= gone
                turn -= gone
                if rest is not None:
                    waiting[0] = rest
                    break
                waiting.popleft()
        except OSError as error:
            self._end(error)
            return
        if not waiting:
            self._unsent = None
            self._loop.remove_writer(self._socket.fileno())
        if self._is_full and self._unsent_size <= self._high // 4:
            self._is_full = False
            self._protocol.resume_writing()
        if self._unsent is None and self._is_closing and not self._is_ended:
            self._say_goodbye()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """`high` bytes unsent pause the protocol, a quarter of them lets it go on."""
        self._high = 64 * 1024 if high is None else high

    def get_write_buffer_size(self) -> int:
        return self._unsent_size

    # -- ending --------------------------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        """Send what was written, say that this is the end, and hear the client out: it may still be sending."""
        self._finish(has_peer=True)

    def _finish(self, *, has_peer: bool) -> None:
        if self._is_closing:
            return
        self._is_closing = True
        if self._is_reading:
            self._loop.remove_reader(self._socket.fileno())
        self._has_peer = has_peer
        if self._unsent is None:
            self._say_goodbye()
        else:
            # A client that takes nothing is not waited for longer than one that says nothing.
            self._loop.call_later(_LINGER_SECONDS, self._give_up, self._unsent_size)

    def _give_up(self, before: int) -> None:
        """Cut a connection that is being closed, unless bytes go on flowing."""
        if self._is_ended:
            return
        if self._unsent is None or self._unsent_size >= before:
            self._end(None)
        else:
            self._loop.call_later(_LINGER_SECONDS, self._give_up, self._unsent_size)

    def _say_goodbye(self) -> None:
        try:
            self._socket.unwrap()
        except OSError:  # it wants to wait for the client's own goodbye; or the client has gone
            pass
        if not self._has_peer:
            self._end(None)
            return
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._end(None)
            return
        # Closing with unread bytes would reset the connection, and the client might never see our last ones.
        self._loop.add_reader(self._socket.fileno(), self._hear_out)
        self._loop.call_later(_LINGER_SECONDS, self._give_up, 0)

    def _hear_out(self) -> None:
        try:
            if not self._socket.recv(_SLICE):
                self._end(None)
        except BlockingIOError:
            pass
        except OSError:
            self._end(None)

    def abort(self) -> None:
        self._end(None)

    def _fail(self, error: Exception) -> None:
        told = {"message": "a protocol failed", "exception": error, "protocol": self._protocol, "transport": self}
        self._loop.call_exception_handler(told)
        self._end(error)

    def _end(self, error: Exception | None) -> None:
        if self._is_ended:
            return
        self._is_closing = self._is_ended = True
        descriptor = self._socket.fileno()
        self._loop.remove_reader(descriptor)
        if self._unsent is not None:
            self._loop.remove_writer(descriptor)
            self._unsent = None
        self._unsent_size = 0
        if self._listener is not None:
            self._listener.handshaking.discard(self)
            self._listener = None
        self._socket.close()
        protocol, self._protocol = self._protocol, None  # they name each other: let go, so that both are freed at once
        if protocol is not None:
            self._loop.call_soon(protocol.connection_lost, error)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Of asyncio's names, those that make sense here. `ssl_object` is the socket."""
        try:
            match name:
                case "socket" | "ssl_object":
                    return self._socket
                case "peername":
                    return self._socket.getpeername()
                case "sockname":
                    return self._socket.getsockname()
        except OSError:  # gone
            pass
        return default
