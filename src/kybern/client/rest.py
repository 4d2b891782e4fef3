"""The REST API as typed calls: get, list, watch, create, update, patch, delete, and `request` for the rest.

Turns Structs (or dicts) into requests over http.Transport and answers back into objects; every failure is an
ApiError. Used by informer, leader, recorder and all components. Retries what the server turned away (429, or 503
with Retry-After) and lost connections of reads; a write whose outcome is unknown is reported, never repeated.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import random
import urllib.parse
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, overload

import msgspec

from kybern.api import codec, meta_v1
from kybern.api.resource import Resource
from kybern.client import http, kubeconfig, shapes
from kybern.client.rest_metrics import RestMetrics
from kybern.client.shapes import Shape
from kybern.machinery import scheme
from kybern.machinery.clock import Clock
from kybern.machinery.status import ApiError

T = TypeVar("T")
Struct = TypeVar("Struct", bound=msgspec.Struct)

TIMEOUT = 60.0
ATTEMPTS = 10  # of a request the server asks to repeat later (client-go: 10)
READ_ATTEMPTS = 4  # of a read whose connection broke
LONGEST_PAUSE = 30.0
TOKEN_LIFETIME = 60.0  # seconds until a token file is read again
LINE_LIMIT = 32 << 20  # bytes of one watch event

EventType = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
# Subresource bodies whose kind does not name the resource they are posted to.
_PARENTS = {"Binding": ("v1", "Pod"), "Eviction": ("v1", "Pod"), "TokenRequest": ("v1", "ServiceAccount")}


@dataclass(frozen=True, slots=True)
class ListResult(Generic[T]):
    """Objects and the version of the list, from which a watch goes on."""

    items: list[T]
    resource_version: str
    continue_token: str = ""


@dataclass(frozen=True, slots=True)
class WatchEvent(Generic[T]):
    """One change. A BOOKMARK's object carries nothing but its resourceVersion."""

    type: EventType
    object: T


@dataclass(frozen=True, slots=True)
class Answer:
    """A raw answer below 400."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class _List(msgspec.Struct):
    metadata: meta_v1.ListMeta = msgspec.field(default_factory=meta_v1.ListMeta)
    items: list[msgspec.Raw] | None = None  # Go servers send null for none


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Kind(msgspec.Struct):
    kind: str = ""


_list_decoder = msgspec.json.Decoder(_List)
_event_decoder = msgspec.json.Decoder(_Event)
_kind_decoder = msgspec.json.Decoder(_Kind)


class RestClient:
    """One cluster, as one user. Safe to share by any number of tasks of one loop."""

    def __init__(
        self,
        access: kubeconfig.Access,
        clock: Clock,
        *,
        user_agent: str = "kybern",
        rng: random.Random | None = None,
        wire: http.Wire | None = None,
    ) -> None:
        self.access = access
        self._clock = clock
        self._rng = rng or random.Random()
        self._user_agent = user_agent
        self._transport = wire or http.Transport(access)
        self.metrics = RestMetrics(urllib.parse.urlsplit(access.server).netloc)
        self._token = access.token
        self._token_read = float("-inf")
        self.may_write: Callable[[], bool] | None = None  # asked before each write: a leader's lease may have run out

    @classmethod
    def from_kubeconfig(
        cls, path: str | os.PathLike[str], clock: Clock, *, user_agent: str = "kybern", rng: random.Random | None = None
    ) -> RestClient:
        """Raises ValueError or OSError if the file is unusable; connects on the first request only."""
        return cls(kubeconfig.load(path), clock, user_agent=user_agent, rng=rng)

    def close(self) -> None:
        """Close idle connections; running requests end by themselves."""
        self._transport.close()

    # reading
    @overload
    async def get(self, kind: Resource, namespace: str, name: str, *, subresource: str = "") -> dict[str, Any]: ...
    @overload
    async def get(self, kind: type[T] | Shape[T], namespace: str, name: str, *, subresource: str = "") -> T: ...
    async def get(self, kind: Any, namespace: str, name: str, *, subresource: str = "") -> Any:
        """One object, from the store (not from a cache of the server)."""
        shape = shapes.of(kind)
        path = path_of(shape.resource, namespace, name, subresource)
        answer = await self.request("GET", path, headers={"accept": shape.accept})
        return _decode(shape, answer.body)

    @overload
    async def list(
        self, kind: Resource, namespace: str | None = None, *, label_selector: str = "", field_selector: str = "",
        limit: int = 0, resource_version: str = "", continue_token: str = "",
    ) -> ListResult[dict[str, Any]]: ...  # fmt: skip
    @overload
    async def list(
        self, kind: type[T] | Shape[T], namespace: str | None = None, *, label_selector: str = "",
        field_selector: str = "", limit: int = 0, resource_version: str = "", continue_token: str = "",
    ) -> ListResult[T]: ...  # fmt: skip
    async def list(
        self,
        kind: Any,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        resource_version: str = "",
        continue_token: str = "",
    ) -> ListResult[Any]:
        """All objects (None or "": of all namespaces). `limit` makes pages: pass `continue_token` for the next."""
        shape = shapes.of(kind)
        query = {
            "labelSelector": label_selector,
            "fieldSelector": field_selector,
            "limit": str(limit) if limit else "",
            "resourceVersion": resource_version,
            "continue": continue_token,
        }
        path = path_of(shape.resource, namespace or "")
        answer = await self.request("GET", path, query=query, headers={"accept": shape.accept_list})
        try:
            found = _list_decoder.decode(answer.body)
            items = [shape.decode(item) for item in found.items or ()]
        except msgspec.DecodeError as error:
            raise _undecodable(path, error) from error
        return ListResult(items, found.metadata.resourceVersion or "", found.metadata.continue_ or "")

    @overload
    def watch(
        self, kind: Resource, namespace: str | None = None, *, label_selector: str = "", field_selector: str = "",
        resource_version: str = "", bookmarks: bool = True, timeout: int = 0,
    ) -> AsyncIterator[WatchEvent[dict[str, Any]]]: ...  # fmt: skip
    @overload
    def watch(
        self, kind: type[T] | Shape[T], namespace: str | None = None, *, label_selector: str = "",
        field_selector: str = "", resource_version: str = "", bookmarks: bool = True, timeout: int = 0,
    ) -> AsyncIterator[WatchEvent[T]]: ...  # fmt: skip
    async def watch(
        self,
        kind: Any,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str = "",
        bookmarks: bool = True,
        timeout: int = 0,
    ) -> AsyncIterator[WatchEvent[Any]]:
        """Changes after `resource_version`, until the server ends the watch (after `timeout` seconds, if given).

        An ERROR event is raised as ApiError (`is_expired`: list anew). Wrap in contextlib.aclosing to leave early.
        """
        shape = shapes.of(kind)
        query = {
            "watch": "true",
            "labelSelector": label_selector,
            "fieldSelector": field_selector,
            "resourceVersion": resource_version,
            "allowWatchBookmarks": "true" if bookmarks else "",
            "timeoutSeconds": str(timeout) if timeout else "",
        }
        path = path_of(shape.resource, namespace or "")
        async with self.stream("GET", path, query=query, headers={"accept": shape.accept}) as parts:
            async for line in lines_of(parts):
                try:
                    event = _event_decoder.decode(line)
                    if event.type == "ERROR":
                        raise _parse_error(500, bytes(event.object), {})
                    yield WatchEvent(event.type, shape.decode(bytes(event.object)))  # type: ignore[arg-type]
                except msgspec.DecodeError as error:
                    raise _undecodable(path, error) from error

    # writing
    async def create(
        self,
        obj: T,
        *,
        subresource: str = "",
        name: str = "",
        namespace: str = "",
        resource: Resource | None = None,
        dry_run: bool = False,
    ) -> T:
        """The object as stored. `resource`: where the kind of a dict, or of a subresource body, does not tell.

        Answers that are a Status (of bindings, evictions) give back `obj` itself.
        """
        at = resource or _target_of(obj)
        space = (namespace or shapes.meta_of(obj).namespace) if at.namespaced else ""
        path = path_of(at, space, name if subresource else "", subresource)
        query = {"dryRun": "All"} if dry_run else None
        return _like(obj, at, await self.request("POST", path, query=query, body=codec.encode(obj)))

    async def update(self, obj: T, *, subresource: str = "", resource: Resource | None = None) -> T:
        """Replace the stored object; a `resourceVersion` in it makes that conditional (ApiError.is_conflict)."""
        at = resource or _target_of(obj)
        meta = shapes.meta_of(obj)
        path = path_of(at, meta.namespace if at.namespaced else "", meta.name, subresource)
        return _like(obj, at, await self.request("PUT", path, body=codec.encode(obj)))

    @overload
    async def patch(
        self, kind: Resource, namespace: str, name: str, patch: Any, *,
        patch_type: str = "application/merge-patch+json", subresource: str = "",
        query: Mapping[str, str] | None = None,
    ) -> dict[str, Any]: ...  # fmt: skip
    @overload
    async def patch(
        self, kind: type[T] | Shape[T], namespace: str, name: str, patch: Any, *,
        patch_type: str = "application/merge-patch+json", subresource: str = "",
        query: Mapping[str, str] | None = None,
    ) -> T: ...  # fmt: skip
    async def patch(
        self,
        kind: Any,
        namespace: str,
        name: str,
        patch: Any,
        *,
        patch_type: str = "application/merge-patch+json",
        subresource: str = "",
        query: Mapping[str, str] | None = None,
    ) -> Any:
        """The object after the patch, which is any JSON value or Struct. `query`: fieldManager, force."""
        shape = shapes.of(kind)
        path = path_of(shape.resource, namespace, name, subresource)
        headers = {"accept": shape.accept, "content-type": patch_type}
        answer = await self.request("PATCH", path, query=query, headers=headers, body=codec.encode(patch))
        return _decode(shape, answer.body)

    @overload
    async def delete(
        self, kind: Resource, namespace: str, name: str, *, uid: str = "", resource_version: str = "",
        propagation: str = "", grace_period: int | None = None,
    ) -> dict[str, Any] | None: ...  # fmt: skip
    @overload
    async def delete(
        self, kind: type[T] | Shape[T], namespace: str, name: str, *, uid: str = "", resource_version: str = "",
        propagation: str = "", grace_period: int | None = None,
    ) -> T | None: ...  # fmt: skip
    async def delete(
        self,
        kind: Any,
        namespace: str,
        name: str,
        *,
        uid: str = "",
        resource_version: str = "",
        propagation: str = "",
        grace_period: int | None = None,
    ) -> Any:
        """Delete it, if uid and resource_version (where given) still hold.

        `propagation`: Background, Foreground or Orphan, "" for the default of the resource.
        Returns the object where the server sent it (it may live on: finalizers, grace), else None.
        """
        shape = shapes.of(kind)
        path = path_of(shape.resource, namespace, name)
        body = codec.encode(_delete_options(uid, resource_version, propagation, grace_period))
        answer = await self.request("DELETE", path, headers={"accept": shape.accept}, body=body)
        return None if _is_status(answer.body) else _decode(shape, answer.body)

    async def delete_collection(
        self,
        kind: type[Any] | Resource | Shape[Any],
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        propagation: str = "",
        grace_period: int | None = None,
    ) -> None:
        """Delete all objects of a resource in a namespace that match."""
        path = path_of(shapes.of(kind).resource, namespace)
        query = {"labelSelector": label_selector, "fieldSelector": field_selector}
        body = codec.encode(_delete_options("", "", propagation, grace_period))
        await self.request("DELETE", path, query=query, body=body)

    # raw
    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        timeout: float = TIMEOUT,
    ) -> Answer:
        """One request to any path. Empty query values are left out. Raises ApiError for 400 and above."""
        target = self._target(path, query)
        if self.may_write is not None and method != "GET" and not self.may_write():
            raise ApiError.unavailable(f"{method} {path}: not sent, the lease to lead has run out")
        for attempt in range(1, ATTEMPTS + 1):
            data = self._render(method, target, headers, body)
            began = self._clock.monotonic()
            try:
                head, answer = await self._transport.exchange(data, timeout)
            except TimeoutError:
                self.metrics.note(method, 0, timeout)
                raise ApiError.timeout(f"{method} {path}: no answer in {timeout:.0f} s") from None
            except OSError as error:
                self.metrics.note(method, 0, self._clock.monotonic() - began)
                if not _is_repeatable(method, error) or attempt >= READ_ATTEMPTS:
                    raise ApiError.unavailable(f"{method} {path}: {error}") from error
                await self._clock.sleep(0.1 * 2**attempt * (0.5 + self._rng.random()))
                continue
            self.metrics.note(method, head.status, self._clock.monotonic() - began)
            if head.status < 400:
                return Answer(head.status, head.headers, answer)
            pause = _pause_of(head)
            if pause is None or attempt == ATTEMPTS:
                raise _parse_error(head.status, answer, head.headers)
            await self._clock.sleep(pause)
        raise AssertionError("unreachable: the last attempt returns or raises")

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        timeout: float = TIMEOUT,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """A request whose body is read part by part as it comes (watch, logs). `timeout` is that of the headers."""
        data = self._render(method, self._target(path, query), headers, body)
        async with contextlib.AsyncExitStack() as stack:
            try:
                began = self._clock.monotonic()
                head, connection = await stack.enter_async_context(self._transport.stream(data, timeout))
                self.metrics.note(method, head.status, self._clock.monotonic() - began)
                if head.status >= 400:
                    raise _parse_error(head.status, await connection.read_all(), head.headers)
            except TimeoutError:
                raise ApiError.timeout(f"{method} {path}: no answer in {timeout:.0f} s") from None
            except OSError as error:
                raise ApiError.unavailable(f"{method} {path}: {error}") from error
            yield _parts_of(connection, f"{method} {path}")

    def _target(self, path: str, query: Mapping[str, str] | None) -> str:
        text = urllib.parse.urlencode({k: v for k, v in (query or {}).items() if v})
        return self._transport.base_path + path + ("?" + text if text else "")

    def _render(self, method: str, target: str, headers: Mapping[str, str] | None, body: bytes) -> bytes:
        fields = {
            "host": self._transport.authority,
            "user-agent": self._user_agent,
            "accept": shapes.JSON,
        }
        if token := self._current_token():
            fields["authorization"] = f"Bearer {token}"
        if body:
            fields["content-type"] = shapes.JSON
        if body or method in ("POST", "PUT", "PATCH"):
            fields["content-length"] = str(len(body))
        fields.update(headers or {})
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
        return "\r\n".join(lines).encode("latin-1") + body

    def _current_token(self) -> str:
        now = self._clock.monotonic()
        if self.access.token_file and now - self._token_read >= TOKEN_LIFETIME:
            with contextlib.suppress(OSError):  # keep the last good one: rotation may be under way
                self._token = pathlib.Path(self.access.token_file).read_text().strip()
                self._token_read = now
        return self._token


def path_of(resource: Resource, namespace: str = "", name: str = "", subresource: str = "") -> str:
    """`/apis/apps/v1/namespaces/x/deployments/y/status`."""
    quote = urllib.parse.quote
    parts = ["", "apis", resource.group, resource.version] if resource.group else ["", "api", resource.version]
    if namespace and resource.namespaced:
        parts += ["namespaces", quote(namespace, safe="")]
    parts.append(resource.plural)
    if name:
        parts.append(quote(name, safe=""))
    if subresource:
        parts.append(quote(subresource, safe="/"))
    return "/".join(parts)


async def lines_of(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Whole lines of a stream, without their ends and without empty ones. A cut-off last line is dropped."""
    rest: list[bytes] = []
    size = 0
    async for part in parts:
        head, newline, tail = part.partition(b"\n")
        rest.append(head)
        size += len(head)
        if size > LINE_LIMIT:
            raise ApiError.internal(f"a watch event is longer than {LINE_LIMIT} bytes")
        if not newline:
            continue
        first = b"".join(rest)
        *lines, last = tail.split(b"\n")
        rest, size = [last], len(last)
        for line in (first, *lines):
            if line.strip():
                yield line


async def _parts_of(connection: http.Body, what: str) -> AsyncIterator[bytes]:
    try:
        while part := await connection.read():
            yield part
    except OSError as error:
        raise ApiError.unavailable(f"{what}: {error}") from error


def _target_of(obj: Any) -> Resource:
    kind = obj.get("kind") if isinstance(obj, dict) else getattr(obj, "kind", "")
    if kind in _PARENTS:
        parent = scheme.kind_of(*_PARENTS[kind])
        assert parent is not None
        return parent
    return shapes.resource_of(obj)


def _like(obj: T, resource: Resource, answer: Answer) -> T:
    """The answer to a write, in the form of what was written."""
    if _is_status(answer.body) and not (isinstance(obj, meta_v1.Status)):
        return obj
    try:
        if isinstance(obj, dict):
            return msgspec.json.decode(answer.body)  # type: ignore[no-any-return]
        return codec.decode_pruned(type(obj), answer.body)[0]
    except msgspec.DecodeError as error:
        raise _undecodable(resource.group_resource, error) from error


def _decode(shape: Shape[T], body: bytes) -> T:
    try:
        return shape.decode(body)
    except msgspec.DecodeError as error:
        raise _undecodable(shape.resource.group_resource, error) from error


def _is_status(body: bytes) -> bool:
    try:
        return _kind_decoder.decode(body).kind == "Status"
    except msgspec.DecodeError:
        return False


def _delete_options(uid: str, version: str, propagation: str, grace_period: int | None) -> meta_v1.DeleteOptions:
    wanted = meta_v1.Preconditions(uid=uid or None, resourceVersion=version or None) if uid or version else None
    return meta_v1.DeleteOptions(
        kind="DeleteOptions",
        apiVersion="v1",
        preconditions=wanted,
        propagationPolicy=propagation or None,
        gracePeriodSeconds=grace_period,
    )


def _is_repeatable(method: str, error: OSError) -> bool:
    return method == "GET" or (isinstance(error, http.Disconnected) and error.unsent)


def _pause_of(head: http.Head) -> float | None:
    """How long the server asks to wait before the same request again; None if it does not."""
    text = head.headers.get("retry-after", "")
    if not text.isascii() or not text.isdigit() or (head.status != 429 and head.status < 500):
        return None
    return min(float(text), LONGEST_PAUSE)


def _parse_error(code: int, body: bytes, headers: Mapping[str, str]) -> ApiError:
    """The Status in an answer; one made of its code where a proxy or a broken server sent something else."""
    try:
        if _is_status(body):
            status, _ = codec.decode_pruned(meta_v1.Status, body)
            if status.status != "Success":
                status.code = status.code or code
                return ApiError(status)
    except msgspec.DecodeError:
        pass
    text = body[:256].decode(errors="replace").strip()
    reasons = {400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 405: "MethodNotAllowed"}
    reasons |= {409: "Conflict", 410: "Gone", 429: "TooManyRequests", 503: "ServiceUnavailable", 504: "Timeout"}
    reason = reasons.get(code, "InternalError" if code >= 500 else "Unknown")
    return ApiError.make(code, reason, f"the server answered {code}: {text}" if text else f"the server answered {code}")


def _undecodable(what: str, error: Exception) -> ApiError:
    return ApiError.internal(f"cannot decode what the server sent for {what}: {error}")
