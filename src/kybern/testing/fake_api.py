"""An API server of dictionaries: the REST rules that clients and controllers live by, in memory, without sockets.

Stands in for http.Transport under a real RestClient, so that whatever is tested goes through real requests and
answers. Keeps resource versions, generations, preconditions, finalizers, graceful deletion, subresources, watches
with bookmarks, and expiry. Has no validation, defaulting, admission or authorization. Every answer comes after one
turn of the loop. Faults are told with `fail_next`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import urllib.parse
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import msgspec

from kybern.api import codec, scalars
from kybern.api.resource import Resource
from kybern.client import http, kubeconfig, shapes
from kybern.client.rest import RestClient
from kybern.machinery import fields, labels, names, scheme
from kybern.machinery.clock import Clock
from kybern.machinery.merge import strategic
from kybern.machinery.status import ApiError

T = TypeVar("T")
Json = dict[str, Any]
Reaction = Callable[["Call"], "ApiError | Exception | None"]


@dataclass(slots=True)
class Call:
    """One request, as the fake understood it."""

    verb: str
    resource: Resource
    namespace: str
    name: str
    subresource: str
    query: dict[str, str]
    body: Json | list[Any] | None = None
    content_type: str = ""
    accept: str = ""

    @property
    def what(self) -> str:
        """`create pods`, `update deployments/status`."""
        return f"{self.verb} {self.resource.plural}" + (f"/{self.subresource}" if self.subresource else "")


@dataclass(slots=True)
class _Watch:
    call: Call
    queue: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)


@dataclass(frozen=True, slots=True)
class _Change:
    revision: int
    type: str
    resource: Resource
    old: Json | None
    new: Json


class FakeApi:
    """The server. `client()` gives a RestClient on it."""

    authority = "fake"
    base_path = ""

    def __init__(self, clock: Clock, *, seed: int = 1, resources: Iterable[Resource] = ()) -> None:
        self._clock = clock
        self._rng = random.Random(seed)
        self._objects: dict[Resource, dict[tuple[str, str], Json]] = {}
        self._history: list[_Change] = []
        self._watches: list[_Watch] = []
        self._extra = {(r.group, r.version, r.plural): r for r in resources}
        self._reactions: list[tuple[str, Reaction, int]] = []
        self._compacted = 0
        self._documents: dict[str, Callable[[], Json]] = {}
        self.revision = 100
        self.calls: list[Call] = []

    def client(self, user_agent: str = "test") -> RestClient:
        access = kubeconfig.Access(server="http://fake")
        return RestClient(access, self._clock, user_agent=user_agent, rng=random.Random(2), wire=self)

    # what tests say and ask
    def put(self, obj: T) -> T:
        """Store an object as it is, status and all; returns it as stored."""
        resource = shapes.resource_of(obj) if not isinstance(obj, dict) else self._resource_of(obj)
        value = msgspec.json.decode(codec.encode(obj))
        meta = value.setdefault("metadata", {})
        if resource.namespaced:
            meta.setdefault("namespace", "default")
        key = (meta.get("namespace", ""), meta["name"])
        old = self._table(resource).get(key)
        meta["uid"] = meta.get("uid") or (old or {"metadata": {}})["metadata"].get("uid") or self._uid()
        meta.setdefault("creationTimestamp", self._now())
        meta.setdefault("generation", 1)
        self._commit("MODIFIED" if old else "ADDED", resource, old, value)
        return self._typed(obj, value)

    def get(self, kind: type[T], namespace: str, name: str) -> T | None:
        value = self._table(shapes.of(kind).resource).get((namespace, name))
        return None if value is None else codec.from_json(kind, value)[0]

    def list(self, kind: type[T], namespace: str = "") -> list[T]:
        table = self._table(shapes.of(kind).resource)
        return [codec.from_json(kind, v)[0] for (ns, _), v in table.items() if not namespace or ns == namespace]

    def edit(self, kind: type[T], namespace: str, name: str, change: Callable[[T], None]) -> T:
        """Change an object behind the back of all clients (what a kubelet would do to a status)."""
        obj = self.get(kind, namespace, name)
        assert obj is not None, f"no {kind.__name__} {namespace}/{name}"
        change(obj)
        return self.put(obj)

    def remove(self, kind: type[Any], namespace: str, name: str) -> None:
        """Take an object away for good, whatever finalizers it has."""
        resource = shapes.of(kind).resource
        self._drop(resource, self._table(resource)[(namespace, name)])

    def fail_next(self, what: str, error: ApiError | Exception, times: int = 1) -> None:
        """The next `times` requests of this `Call.what` fail: with a Status, or as a broken connection (OSError)."""
        self._reactions.append((what, lambda call: error, times))

    def react(self, what: str, reaction: Reaction) -> None:
        """Call `reaction` on every such request, before it is done; what it returns is the failure."""
        self._reactions.append((what, reaction, 1 << 30))

    def serve(self, path: str, document: Callable[[], Json]) -> None:
        """Answer GET of a path with what `document()` gives (an aggregated server's part)."""
        self._documents[path] = document

    def compact(self) -> None:
        """Forget history: watches end, and those that want older versions get 410."""
        self._compacted = self.revision
        self._history.clear()
        self.break_watches()

    def break_watches(self) -> None:
        for watch in self._watches:
            watch.queue.put_nowait(b"")
        self._watches.clear()

    # http.Wire
    async def exchange(self, data: bytes, timeout: float) -> tuple[http.Head, bytes]:
        await asyncio.sleep(0)
        try:
            document = self._document(data)
            status, value = (200, document) if document is not None else self._serve(self._parse(data))
        except ApiError as error:
            headers = {name.lower(): text for name, text in error.headers}
            return http.Head(error.code, headers), codec.encode(error.status)
        await asyncio.sleep(0)
        return http.Head(status, {}), codec.encode(value)

    @contextlib.asynccontextmanager
    async def stream(self, data: bytes, timeout: float) -> AsyncIterator[tuple[http.Head, http.Body]]:
        await asyncio.sleep(0)
        watch = _Watch(self._parse(data))
        try:
            self._react(watch.call)
            self._start(watch)
        except ApiError as error:
            yield http.Head(error.code, {}), _Stream(_filled(codec.encode(error.status)))
            return
        try:
            yield http.Head(200, {}), _Stream(watch.queue)
        finally:
            if watch in self._watches:
                self._watches.remove(watch)

    def close(self) -> None:
        pass

    # requests
    def _document(self, data: bytes) -> Json | None:
        """What is served at a path that is no resource's."""
        path = data.split(b" ", 2)[1].split(b"?")[0]
        if (document := self._documents.get(path.decode("latin-1"))) is not None:
            return document()
        return self._discovery(core=path == b"/api") if path in (b"/api", b"/apis") else None

    def _parse(self, data: bytes) -> Call:
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        headers = dict(line.split(": ", 1) for line in lines)
        url = urllib.parse.urlsplit(target)
        query = dict(urllib.parse.parse_qsl(url.query))
        parts = [urllib.parse.unquote(p) for p in url.path.strip("/").split("/")]
        group, version, rest = ("", parts[1], parts[2:]) if parts[0] == "api" else (parts[1], parts[2], parts[3:])
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
            namespace, rest = rest[1], rest[2:]
        resource = scheme.resource_for(group, version, rest[0]) or self._extra.get((group, version, rest[0]))
        if resource is None:
            raise ApiError.no_such_path()
        name = rest[1] if len(rest) > 1 else ""
        verbs = {"GET": "get" if name else "list", "POST": "create", "PUT": "update", "PATCH": "patch"}
        verbs["DELETE"] = "delete" if name else "deletecollection"
        verb = "watch" if query.get("watch") else verbs[method]
        value = msgspec.json.decode(body) if body else None
        content_type = headers.get("content-type", "")
        accept = headers.get("accept", "")
        return Call(verb, resource, namespace, name, "/".join(rest[2:]), query, value, content_type, accept)

    def _react(self, call: Call) -> None:
        self.calls.append(call)
        for entry in list(self._reactions):
            what, reaction, times = entry
            if what != call.what:
                continue
            self._reactions.remove(entry)
            if times > 1:
                self._reactions.append((what, reaction, times - 1))
            if (failure := reaction(call)) is not None:
                raise failure
            break

    def _serve(self, call: Call) -> tuple[int, Any]:
        self._react(call)
        match call.verb:
            case "get" | "update" if call.subresource == "scale":
                return 200, self._scale(call)
            case "get":
                return 200, self._shaped(call, self._find(call))
            case "list":
                items = [self._shaped(call, v) for v in self._table(call.resource).values() if _selected(call, v)]
                kind = scheme.list_kind_of(call.resource)
                meta = {"resourceVersion": str(self.revision)}
                return 200, {"apiVersion": call.resource.api_version, "kind": kind, "metadata": meta, "items": items}
            case "create":
                return 201, self._create(call)
            case "update":
                return 200, self._update(call, cast("Json", call.body))
            case "patch":
                return 200, self._patch(call)
            case "delete":
                return 200, self._delete(call, self._find(call))
            case _:
                for value in [v for v in self._table(call.resource).values() if _selected(call, v)]:
                    self._delete(call, value)
                return 200, {"kind": "Status", "apiVersion": "v1", "status": "Success"}

    def _create(self, call: Call) -> Json:
        value = cast("Json", call.body)
        if call.subresource == "binding":
            target = value["target"]["name"]
            return self._rewrite(call, lambda pod: pod["spec"].__setitem__("nodeName", target))
        if call.subresource == "token":
            value["status"] = {"token": f"token-of-{call.name}", "expirationTimestamp": self._now()}
            return value
        meta = value.setdefault("metadata", {})
        if call.resource.namespaced:
            meta["namespace"] = call.namespace
        if not meta.get("name"):
            meta["name"] = names.generate(meta.get("generateName", ""), self._rng)
        key = (meta.get("namespace", ""), meta["name"])
        if key in self._table(call.resource):
            raise ApiError.already_exists(call.resource.group, call.resource.plural, meta["name"])
        if call.resource.namespaced and call.resource.plural != "events":
            space = self._table(_namespaces()).get(("", call.namespace))
            if space is not None and space["metadata"].get("deletionTimestamp"):
                why = f"unable to create new content in namespace {call.namespace} because it is being terminated"
                raise ApiError.forbidden(call.resource.group, call.resource.plural, meta["name"], why)
        meta |= {"uid": self._uid(), "creationTimestamp": self._now(), "generation": 1}
        if call.resource.plural == "namespaces":
            value.setdefault("spec", {})["finalizers"] = ["kubernetes"]
            value["status"] = {"phase": "Active"}
        elif call.resource.plural == "pods":
            value["status"] = {"phase": "Pending"}
        elif call.resource.subresources:
            value.pop("status", None)
        if call.query.get("dryRun"):
            return value
        self._commit("ADDED", call.resource, None, value)
        return value

    def _update(self, call: Call, value: Json) -> Json:
        old = self._find(call)
        meta, old_meta = value.get("metadata", {}), old["metadata"]
        if meta.get("resourceVersion") and meta["resourceVersion"] != old_meta["resourceVersion"]:
            raise ApiError.stale(call.resource.group, call.resource.plural, call.name)
        if meta.get("uid") and meta["uid"] != old_meta["uid"]:
            why = f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: {old_meta['uid']}"
            raise ApiError.conflict(call.resource.group, call.resource.plural, call.name, why)
        if call.subresource in ("status", "approval"):
            new = {**old, "status": value.get("status", {})}
        elif call.subresource == "finalize":
            new = {**old, "spec": {**old.get("spec", {}), "finalizers": value.get("spec", {}).get("finalizers", [])}}
        else:
            new = dict(value)
            if "status" in old and any(s.name == "status" for s in call.resource.subresources):
                new["status"] = old["status"]
            fixed = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")
            new["metadata"] = {k: v for k, v in meta.items() if k not in fixed}
            new["metadata"] |= {k: old_meta[k] for k in fixed if k in old_meta}
            if new.get("spec") != old.get("spec"):
                new["metadata"]["generation"] = old_meta.get("generation", 1) + 1
        if _same(new, old):
            return old
        if new["metadata"].get("deletionTimestamp") and not _is_held(new):
            return self._drop(call.resource, {**new, "metadata": dict(new["metadata"])})
        self._commit("MODIFIED", call.resource, old, new)
        return new

    def _patch(self, call: Call) -> Json:
        old = self._find(call)
        if call.content_type.startswith("application/json-patch"):
            new = _apply_json_patch(old, cast("list[Any]", call.body))
        elif call.content_type.startswith("application/strategic") and call.resource.definition:
            new = cast("Json", strategic.apply(old, call.body, call.resource.definition))
        else:
            new = cast("Json", _merge(old, call.body))
        if not isinstance(call.body, dict) or "resourceVersion" not in (call.body.get("metadata") or {}):
            new["metadata"] = {**new["metadata"], "resourceVersion": old["metadata"]["resourceVersion"]}
        return self._update(call, new)

    def _delete(self, call: Call, old: Json) -> Json:
        options = call.body if isinstance(call.body, dict) else {}
        wanted = options.get("preconditions") or {}
        meta = old["metadata"]
        for precondition, have in (("uid", meta["uid"]), ("resourceVersion", meta["resourceVersion"])):
            if wanted.get(precondition) and wanted[precondition] != have:
                why = f"Precondition failed: {precondition}: {wanted[precondition]}, found: {have}"
                raise ApiError.conflict(call.resource.group, call.resource.plural, meta["name"], why)
        new = {**old, "metadata": {**meta}}
        finalizers = list(meta.get("finalizers", []))
        policy = options.get("propagationPolicy")
        wants = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}
        if not meta.get("deletionTimestamp"):
            finalizers = [f for f in finalizers if f not in wants.values()]
            finalizers += [wants[policy]] if policy in wants else []
        new["metadata"]["finalizers"] = finalizers
        grace = self._grace_of(call.resource, old, options)
        if meta.get("deletionTimestamp"):
            grace = min(grace, meta.get("deletionGracePeriodSeconds", 0))
        new["metadata"]["deletionGracePeriodSeconds"] = grace
        if _is_held(new):
            new["metadata"]["deletionTimestamp"] = meta.get("deletionTimestamp") or self._now()
            if call.resource.plural == "namespaces":
                new["status"] = {**new.get("status", {}), "phase": "Terminating"}
            if not _same(new, old):
                self._commit("MODIFIED", call.resource, old, new)
            return new
        self._drop(call.resource, new)
        details = {"name": meta["name"], "kind": call.resource.plural, "uid": meta["uid"]}
        return {"kind": "Status", "apiVersion": "v1", "status": "Success", "details": details}

    def _grace_of(self, resource: Resource, value: Json, options: Json) -> int:
        if resource.plural != "pods" or not value.get("spec", {}).get("nodeName"):
            return 0
        if value.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            return 0
        asked = options.get("gracePeriodSeconds")
        return int(value["spec"].get("terminationGracePeriodSeconds", 30) if asked is None else asked)

    def _rewrite(self, call: Call, change: Callable[[Json], None]) -> Json:
        old = self._find(call)
        new = msgspec.json.decode(msgspec.json.encode(old))
        change(new)
        self._commit("MODIFIED", call.resource, old, new)
        return {"kind": "Status", "apiVersion": "v1", "status": "Success"}

    # objects and history
    def _scale(self, call: Call) -> Json:
        """The scale of what has spec.replicas and a selector of labels; an update sets it."""
        if call.verb == "update":

            def resize(value: Json) -> None:
                value["spec"]["replicas"] = cast("Json", call.body)["spec"]["replicas"]
                value["metadata"]["generation"] += 1

            self._rewrite(call, resize)
        value = self._find(call)
        chosen = value["spec"].get("selector", {}).get("matchLabels", {})
        return {
            "apiVersion": "autoscaling/v1",
            "kind": "Scale",
            "metadata": value["metadata"],
            "spec": {"replicas": value["spec"].get("replicas", 1)},
            "status": {
                "replicas": value.get("status", {}).get("replicas", 0),
                "selector": ",".join(f"{name}={text}" for name, text in chosen.items()),
            },
        }

    def _table(self, resource: Resource) -> dict[tuple[str, str], Json]:
        return self._objects.setdefault(resource, {})

    def _find(self, call: Call) -> Json:
        found = self._table(call.resource).get((call.namespace, call.name))
        if found is None:
            raise ApiError.not_found(call.resource.group, call.resource.plural, call.name)
        return found

    def _commit(self, change: str, resource: Resource, old: Json | None, new: Json) -> None:
        self.revision += 1
        new["metadata"] = {**new["metadata"], "resourceVersion": str(self.revision)}
        if not new["metadata"].get("finalizers"):
            new["metadata"].pop("finalizers", None)
        key = (new["metadata"].get("namespace", ""), new["metadata"]["name"])
        if change == "DELETED":
            self._table(resource).pop(key, None)
        else:
            self._table(resource)[key] = new
        entry = _Change(self.revision, change, resource, old, new)
        self._history.append(entry)
        for watch in self._watches:
            _tell(watch, entry)

    def _drop(self, resource: Resource, value: Json) -> Json:
        self._commit("DELETED", resource, value, {**value, "metadata": dict(value["metadata"])})
        return value

    def _start(self, watch: _Watch) -> None:
        text = watch.call.query.get("resourceVersion", "")
        since = int(text) if text else self.revision
        if since < self._compacted and text != "0":
            expired = ApiError.expired("The resourceVersion for the provided watch is too old.")
            watch.queue.put_nowait(_line("ERROR", codec.to_json(expired.status)))
            watch.queue.put_nowait(b"")
            return
        if text in ("", "0"):
            for value in self._table(watch.call.resource).values():
                _tell(watch, _Change(self.revision, "ADDED", watch.call.resource, None, value))
        else:
            for entry in self._history:
                if entry.revision > since:
                    _tell(watch, entry)
        self._watches.append(watch)

    def bookmark(self) -> None:
        """Send every watch a bookmark of the current revision."""
        for watch in self._watches:
            meta = {"resourceVersion": str(self.revision), "creationTimestamp": None}
            value = {"apiVersion": watch.call.resource.api_version, "kind": watch.call.resource.kind, "metadata": meta}
            watch.queue.put_nowait(_line("BOOKMARK", value))

    def _shaped(self, call: Call, value: Json) -> Json:
        if "PartialObjectMetadata" in call.accept:
            return {"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": value["metadata"]}
        return value

    def _typed(self, like: T, value: Json) -> T:
        return cast("T", value) if isinstance(like, dict) else codec.from_json(type(like), value)[0]

    def _resource_of(self, value: Json) -> Resource:
        group, _, version = value["apiVersion"].rpartition("/")
        for resource in self._extra.values():
            if (resource.group, resource.version, resource.kind) == (group, version, value["kind"]):
                return resource
        return shapes.resource_of(value)

    def _uid(self) -> str:
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))

    def _now(self) -> str:
        return str(scalars.render_time(self._clock.now()))

    def _discovery(self, *, core: bool) -> Json:
        groups: dict[str, dict[str, list[Json]]] = {}
        for resource in (*scheme.RESOURCES, *self._extra.values()):
            if (resource.group == "") != core:
                continue
            row = {
                "resource": resource.plural,
                "responseKind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
                "scope": "Namespaced" if resource.namespaced else "Cluster",
                "singularResource": resource.singular,
                "verbs": list(resource.verbs),
            }
            groups.setdefault(resource.group, {}).setdefault(resource.version, []).append(row)
        items = [
            {
                "metadata": {"name": group} if group else {},
                "versions": [{"version": v, "resources": rows, "freshness": "Current"} for v, rows in versions.items()],
            }
            for group, versions in groups.items()
        ]
        return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


class _Stream:
    """http.Body over the events of a watch."""

    def __init__(self, queue: asyncio.Queue[bytes]) -> None:
        self._queue = queue
        self._ended = False

    async def read(self) -> bytes:
        part = b"" if self._ended else await self._queue.get()
        self._ended = not part
        return part

    async def read_all(self) -> bytes:
        parts = []
        while part := await self.read():
            parts.append(part)
        return b"".join(parts)


def _filled(body: bytes) -> asyncio.Queue[bytes]:
    queue: asyncio.Queue[bytes] = asyncio.Queue()
    queue.put_nowait(body)
    queue.put_nowait(b"")
    return queue


def _namespaces() -> Resource:
    found = scheme.resource_for("", "v1", "namespaces")
    assert found is not None
    return found


def _line(change: str, value: Any) -> bytes:
    return codec.encode({"type": change, "object": value}) + b"\n"


def _tell(watch: _Watch, entry: _Change) -> None:
    """Send a change as this watch sees it: what stops or starts to match is deleted or added."""
    if entry.resource != watch.call.resource:
        return
    was = entry.old is not None and _selected(watch.call, entry.old)
    matches = _selected(watch.call, entry.new)
    change = entry.type
    if change == "MODIFIED":
        change = {(True, True): "MODIFIED", (False, True): "ADDED", (True, False): "DELETED"}.get((was, matches), "")
    elif not matches:
        change = ""
    if change:
        watch.queue.put_nowait(_line(change, entry.new))


def _selected(call: Call, value: Json) -> bool:
    meta = value["metadata"]
    if call.namespace and meta.get("namespace") != call.namespace:
        return False
    wanted = call.query.get("labelSelector", "")
    if wanted and not labels.parse_selector(wanted).matches(meta.get("labels") or {}):
        return False
    if text := call.query.get("fieldSelector"):
        selector = fields.parse_selector(text)
        found = {field: str(_at(value, field.split("."))) for field, _, _ in selector.requirements}
        return selector.matches(found)
    return True


def _at(value: Any, path: list[str]) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return "" if value is None else value


def _is_held(value: Json) -> bool:
    """Something keeps a deleted object: finalizers, or the grace of a pod that still runs."""
    meta = value["metadata"]
    if meta.get("finalizers") or meta.get("deletionGracePeriodSeconds"):
        return True
    return value.get("kind") == "Namespace" and bool(value.get("spec", {}).get("finalizers"))


def _same(new: Json, old: Json) -> bool:
    return msgspec.json.encode(_bare(new), order="sorted") == msgspec.json.encode(_bare(old), order="sorted")


def _bare(value: Json) -> Json:
    meta = {k: v for k, v in value["metadata"].items() if k != "resourceVersion" and v not in ([], {})}
    return {**value, "metadata": meta}


def _merge(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge(merged.get(name), value)
    return merged


def _apply_json_patch(old: Json, patch: list[Any]) -> Json:
    import jsonpatch

    try:
        return cast("Json", jsonpatch.apply_patch(old, patch))
    except jsonpatch.JsonPatchException as error:
        raise ApiError.make(422, "Invalid", f"the server rejected our request: {error}") from error
