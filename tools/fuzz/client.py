"""Send bytes to the server and read what comes back, with one connection that is opened again when it ends."""

from __future__ import annotations

import socket
from dataclasses import dataclass

PATIENCE = 30.0  # seconds of the clock on the wall, on however busy a machine
SOON = 0.02  # how long a request that may be unfinished is waited for before the connection is half-closed
_MOST = 64 << 20


@dataclass(frozen=True)
class Answer:
    """`status` 0: the connection was closed without one; -1: nothing came at all."""

    status: int
    head: bytes = b""
    body: bytes = b""


class Client:
    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self._rest = b""

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._rest = b""

    def send(self, data: bytes, *, is_whole: bool) -> Answer:
        """One request. Raises ConnectionRefusedError when there is no server any more."""
        for attempt in range(2):
            fresh = self._socket is None
            if fresh:
                self._socket = socket.create_connection(("127.0.0.1", self._port), PATIENCE)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._rest = b""
            try:
                answer = self._exchange(data, is_whole)
            except ConnectionError:
                answer = Answer(0)
            if answer.status == 0:
                self.close()
                if not fresh and attempt == 0:
                    continue  # the connection had ended before
            if answer.status <= 0 or not is_whole or b"connection: close" in answer.head.lower():
                self.close()
            return answer
        return Answer(0)

    def _exchange(self, data: bytes, is_whole: bool) -> Answer:
        sock = self._socket
        assert sock is not None
        sock.settimeout(PATIENCE)
        sock.sendall(data)
        if not is_whole:
            sock.settimeout(SOON)
            try:
                self._rest += sock.recv(65536)
            except TimeoutError:
                sock.shutdown(socket.SHUT_WR)
            sock.settimeout(PATIENCE)
        try:
            return self._read(has_body=not data.lstrip().startswith(b"HEAD "))
        except TimeoutError:
            return Answer(-1)

    def _read(self, *, has_body: bool) -> Answer:
        while True:
            head, mark, rest = self._rest.partition(b"\r\n\r\n")
            if not mark:
                if not self._more():
                    return Answer(0)
                continue
            status = int(head[9:12])
            self._rest = rest
            if status != 100:
                break
        fields = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
        }
        if status == 101 or b"transfer-encoding" in fields:
            answer = Answer(status, head, self._rest)  # a stream: its beginning is enough
            self.close()
            return answer
        length = int(fields.get(b"content-length", b"0")) if has_body and status not in (204, 304) else 0
        while len(self._rest) < length and len(self._rest) < _MOST:
            if not self._more():
                break
        body, self._rest = self._rest[:length], self._rest[length:]
        return Answer(status, head, body)

    def _more(self) -> bool:
        assert self._socket is not None
        data = self._socket.recv(1 << 20)
        self._rest += data
        return bool(data)
