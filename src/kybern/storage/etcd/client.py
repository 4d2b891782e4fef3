"""etcd's v3 API over gRPC: one call at a time to whichever member answers.

Used by store and watch; messages are those of pb. Promise: a call that cannot have reached a member is tried at the
next one; of any other failure the caller is told that the outcome is unknown, and decides.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from kybern.storage.interface import OutcomeUnknown, StoreUnavailable

log = structlog.get_logger(__name__)

CALL_TIMEOUT = 10.0  # seconds of one call
QUICK_TIMEOUT = 3.0  # of one that asks for a single key: a member that is silent so long is passed over
TRIES = 3  # of each member, before the store counts as unavailable
RETRY_PAUSE = 0.2  # seconds, after every member was asked once
_MAX_MESSAGE = 256 << 20  # bytes received; etcd bounds what it is sent (1.5 MiB a request)
_KV = "/etcdserverpb.KV/"
_WATCH = "/etcdserverpb.Watch/Watch"
# A member that is parted from the others says so, and does not take what it cannot do, nor watch what does not come.
_REQUIRE_LEADER = (("hasleader", "true"),)


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the members are, and how to know them. Files are PEM; none of them: plain text."""

    urls: tuple[str, ...]
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @classmethod
    def parse(cls, servers: str, ca: str = "", certificate: str = "", key: str = "") -> Endpoints:
        """Flags of kube-apiserver (--etcd-servers and so on). Raises ValueError."""
        urls = tuple(url.strip().rstrip("/") for url in servers.split(",") if url.strip())
        for url in urls:
            scheme, _, rest = url.partition("://")
            if scheme not in ("http", "https") or not rest or "/" in rest:
                raise ValueError(f"etcd server {url!r}: expected https://host:port")
        if not urls:
            raise ValueError("no etcd server is named")
        if bool(certificate) != bool(key):
            raise ValueError("a client certificate for etcd needs its key, and a key its certificate")
        return cls(urls, *(Path(p) if p else None for p in (ca, certificate, key)))


class Refused(Exception):
    """etcd answered no. `code` is gRPC's name for why; the text is etcd's."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class EtcdClient:
    """Calls to the members of one cluster. For one event loop; `close` it."""

    def __init__(self, endpoints: Endpoints) -> None:
        """Raises OSError for a file that cannot be read."""
        import grpc
        import grpc.aio

        from kybern.storage.etcd.pb import rpc_pb2

        self.pb: Any = rpc_pb2
        self._grpc: Any = grpc
        self._channels = [self._channel(url, endpoints) for url in endpoints.urls]
        self._urls = endpoints.urls
        self._first = 0  # the member that answered last
        self._closed = False

    def _channel(self, url: str, endpoints: Endpoints) -> Any:
        options = [
            ("grpc.max_receive_message_length", _MAX_MESSAGE),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
            ("grpc.keepalive_time_ms", 10_000),  # a member that vanished without a word is noticed
            ("grpc.keepalive_timeout_ms", 5_000),
            ("grpc.enable_http_proxy", 0),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        scheme, _, target = url.partition("://")
        if scheme == "http":
            return self._grpc.aio.insecure_channel(target, options=options)
        credentials = self._grpc.ssl_channel_credentials(
            endpoints.ca.read_bytes() if endpoints.ca else None,
            endpoints.key.read_bytes() if endpoints.key else None,
            endpoints.certificate.read_bytes() if endpoints.certificate else None,
        )
        return self._grpc.aio.secure_channel(target, credentials, options=options)

    async def range(self, request: Any) -> Any:
        """Reads change nothing: they are tried until one answers. Raises Refused, StoreUnavailable."""
        seconds = QUICK_TIMEOUT if request.count_only or not request.range_end else CALL_TIMEOUT
        return await self._call("Range", request, "RangeResponse", is_read=True, seconds=seconds)

    async def transaction(self, request: Any) -> Any:
        """Raises Refused, StoreUnavailable (nothing was done), OutcomeUnknown."""
        return await self._call("Txn", request, "TxnResponse", is_read=False)

    async def compact(self, request: Any) -> Any:
        """Doing it twice does no harm. Raises Refused, StoreUnavailable."""
        return await self._call("Compact", request, "CompactionResponse", is_read=True)

    async def _call(self, name: str, request: Any, answer: str, *, is_read: bool, seconds: float = CALL_TIMEOUT) -> Any:
        last = "closed"
        for number in range(TRIES * len(self._channels)):
            if self._closed:
                raise StoreUnavailable("the store is closed")
            if number and number % len(self._channels) == 0:
                await asyncio.sleep(RETRY_PAUSE)
            at = (self._first + number) % len(self._channels)
            method = self._channels[at].unary_unary(
                _KV + name,
                request_serializer=type(request).SerializeToString,
                response_deserializer=getattr(self.pb, answer).FromString,
            )
            try:
                response = await method(request, timeout=seconds, metadata=_REQUIRE_LEADER, wait_for_ready=False)
            except self._grpc.aio.AioRpcError as error:
                code, last = error.code().name, error.details() or ""
                if code not in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "INTERNAL", "UNKNOWN"):
                    raise Refused(code, last) from None
                if not is_read and not _never_left(code, last):
                    raise OutcomeUnknown(f"etcd {self._urls[at]}: {last}") from None
            except asyncio.CancelledError:
                if self._closed:
                    raise StoreUnavailable("the store is closed") from None
                raise
            else:
                self._first = at
                return response
        raise StoreUnavailable(f"no etcd member answers: {last}")

    def watch(self) -> Any:
        """A new stream of the Watch service, to the member that answered last."""
        method = self._channels[self._first].stream_stream(
            _WATCH,
            request_serializer=self.pb.WatchRequest.SerializeToString,
            response_deserializer=self.pb.WatchResponse.FromString,
        )
        return method(metadata=_REQUIRE_LEADER, wait_for_ready=False)

    def leave(self) -> None:
        """The member that answered last does so no more: ask the next one first."""
        self._first = (self._first + 1) % len(self._channels)

    @property
    def rpc_error(self) -> Any:
        """What a broken stream raises."""
        return self._grpc.aio.AioRpcError

    async def close(self) -> None:
        self._closed = True
        for channel in self._channels:
            await channel.close()


def _never_left(code: str, details: str) -> bool:
    """The connection could not be made: nothing was sent. etcd without a leader takes nothing either."""
    if code != "UNAVAILABLE":
        return False
    return "failed to connect" in details.lower() or "connection refused" in details.lower() or "no leader" in details
