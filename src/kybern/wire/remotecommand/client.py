"""The client's end of exec and attach over SPDY: what a container runtime's streaming server is spoken to with.

Used by kubelet/server through bridge.py. containerd 1.6 and later speak SPDY/3.1 with v4 of the protocol.
"""

from __future__ import annotations

from kybern.wire.remotecommand import protocol
from kybern.wire.remotecommand.protocol import ERROR, RESIZE, STDERR, STDIN, STDOUT, Options
from kybern.wire.spdy.connection import SpdyConnection, SpdyStream

_MAX_REPORT = 64 * 1024


class RemoteCommand:
    """Streams of a command that runs elsewhere. Build with `start`; `connection.run()` must be running."""

    def __init__(self, connection: SpdyConnection, streams: dict[int, SpdyStream]) -> None:
        self._connection = connection
        self._streams = streams

    @classmethod
    async def start(cls, connection: SpdyConnection, options: Options) -> RemoteCommand:
        """Open the streams, error first, as kubectl does. Raises ConnectionError."""
        wanted = {
            ERROR: True,
            STDIN: options.stdin,
            STDOUT: options.stdout,
            STDERR: options.stderr and not options.tty,
            RESIZE: options.tty,
        }
        streams = {}
        for channel, is_wanted in wanted.items():
            if is_wanted:
                streams[channel] = await connection.open({"streamtype": protocol.STREAM_TYPES[channel]})
        await streams[ERROR].close()  # it is only read
        return cls(connection, streams)

    async def read_output(self, channel: int) -> bytes:
        """Of STDOUT or STDERR; b"" at the end. Raises ConnectionError."""
        stream = self._streams.get(channel)
        return await stream.read() if stream else b""

    async def read_error(self) -> bytes:
        """The whole report of how the command ended. Raises ConnectionError when there was none.

        Go servers reset their streams when they are through, so a reset after a report is its end.
        """
        report = b""
        try:
            while data := await self._streams[ERROR].read():
                report = (report + data)[:_MAX_REPORT]
        except ConnectionError:
            if not report:
                raise
        return report

    async def write_stdin(self, data: bytes) -> None:
        if STDIN in self._streams:
            await self._streams[STDIN].write(data)

    async def close_stdin(self) -> None:
        if STDIN in self._streams:
            await self._streams[STDIN].close()

    async def write_resize(self, data: bytes) -> None:
        if RESIZE in self._streams:
            await self._streams[RESIZE].write(data)

    def close(self) -> None:
        self._connection.close()
