"""Names, numbers and statuses of the remote command protocols. Pure; used by server, client and bridge.

Versions: 1 has plain-text errors and no half-close fixes; 2 fixes those; 3 adds terminal resizing; 4 reports the exit
code as a Status; 5 (WebSocket only) lets the client close stdin.
"""

from __future__ import annotations

import msgspec

from kybern.api import codec
from kybern.api.meta_v1 import Status, StatusCause, StatusDetails

STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)
CLOSE_CHANNEL = 255  # v5: [255, n] means that channel n ends

# Names of SPDY streams (header streamtype).
STREAM_TYPES = {STDIN: "stdin", STDOUT: "stdout", STDERR: "stderr", ERROR: "error", RESIZE: "resize"}

PROTOCOL_HEADER = "X-Stream-Protocol-Version"
SPDY_PROTOCOLS = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io")
WEBSOCKET_PROTOCOLS = (
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
    "",
)

_NON_ZERO = "NonZeroExitCode"


class Options(msgspec.Struct, frozen=True):
    """Which streams a client asked for."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    tty: bool = False

    @property
    def has_any(self) -> bool:
        return self.stdin or self.stdout or self.stderr


def version_of(protocol: str) -> int:
    """5 for `v5.channel.k8s.io`, 1 for the unversioned names."""
    return int(protocol[1]) if protocol[:1] == "v" else 1


def success() -> Status:
    return Status(status="Success")


def exited(code: int) -> Status:
    """The status of a command that ended with `code`."""
    if code == 0:
        return success()
    return Status(
        status="Failure",
        reason=_NON_ZERO,
        message=f"command terminated with non-zero exit code: {code}",
        details=StatusDetails(causes=[StatusCause(reason="ExitCode", message=str(code))]),
    )


def failed(message: str) -> Status:
    """The command could not be run, or its streams broke."""
    return Status(status="Failure", reason="InternalError", message=message, code=500)


def parse_status(data: bytes) -> Status:
    """What a v4 error stream held. Anything else counts as a plain failure text; nothing as success."""
    if not data:
        return success()
    try:
        status = codec.decode_pruned(Status, data)[0]
    except (msgspec.DecodeError, msgspec.ValidationError):
        return failed(data.decode("utf-8", "replace"))
    return status if status.status else failed(data.decode("utf-8", "replace"))


def render_status(status: Status, version: int) -> bytes:
    """The bytes for the error stream. Before v4: the message, and nothing on success."""
    if version >= 4:
        return codec.encode(status)
    return b"" if status.status == "Success" else (status.message or "").encode()
