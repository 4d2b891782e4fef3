"""PATCH with application/apply-patch+yaml: server-side apply, of an object that may not be there yet.

Called by patch. What is applied is merged by registry/ownership into what is stored at that moment, and again when
another write came first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from kybern.api.meta_v1 import StatusCause
from kybern.apiserver import query
from kybern.apiserver.handlers import body, forms
from kybern.apiserver.handlers.context import Handlers
from kybern.apiserver.handlers.create import answer
from kybern.apiserver.handlers.manager import applier_of
from kybern.apiserver.registry import metadata
from kybern.apiserver.registry.ownership import Owner
from kybern.apiserver.registry.registry import Served
from kybern.apiserver.registry.resource_store import Write
from kybern.apiserver.request import Request, Response
from kybern.apiserver.watch_cache.entry import Entry
from kybern.machinery import manifest
from kybern.machinery.merge.structured.errors import Conflicts, TypedError
from kybern.machinery.status import ApiError

MEDIA = "application/apply-patch+yaml"


async def apply(handlers: Handlers, request: Request, served: Served) -> Response:
    """The applied object as stored (201 where it is new). Raises ApiError."""
    accepted = forms.chosen(request, served)
    info = request.info
    owner = applier_of(request, served)
    is_dry_run = body.is_dry_run(request)
    strictness = body.field_validation(request)
    config, repeated = read(request, strictness)
    check_kind(config, served.resource.api_version, served.resource.kind)
    change = _Apply(handlers, request, served, config, owner, lambda: tell(request, strictness, repeated))
    write = Write(
        request.user,
        is_dry_run,
        info.subresource,
        warnings=request.warnings,
        owner=owner,
        options=body.write_options(request),
        is_apply=True,
        requested=served.requested,
    )
    missing = None if info.subresource else change.missing
    data, created = await served.store.update(info.namespace, info.name, change, write, create_missing=missing)
    return await answer(handlers, request, served, data, accepted, 201 if created else 200)


def is_forced(request: Request) -> bool:
    """Only these words say no."""
    return "force" in request.query and request.flag("force").lower() not in ("false", "0")


def read(request: Request, strictness: str) -> tuple[dict[str, Any], list[str]]:
    """What the client applies, and what it says twice. Raises ApiError 400."""
    repeated: list[manifest.Repeated] = []
    try:
        config = manifest.parse_yaml(request.body, repeated)
    except manifest.ManifestError as error:
        raise ApiError.bad_request(f"error decoding YAML: {error}") from None
    if config is None:
        return {}, []
    if not isinstance(config, dict):
        kind = body.go_name(config)
        raise ApiError.bad_request(
            "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: "
            f"cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
        )
    return config, [] if strictness == "Ignore" else [str(one) for one in repeated[: body.MAX_FAULTS]]


def tell(request: Request, strictness: str, repeated: list[str]) -> None:
    """Refuse or warn of what is said twice: after all else, as upstream. Raises ApiError 400."""
    if repeated and strictness == "Strict":
        told = body.repeated_keys(repeated)
        raise ApiError.bad_request(f"error strict decoding YAML: error converting YAML to JSON: {told}")
    request.warnings.extend(repeated)
    repeated.clear()


def check_kind(config: dict[str, Any], api_version: str, kind: str) -> None:
    """An apply must say what it applies, and without managedFields. Raises ApiError 400."""
    told_version, told_kind = config.get("apiVersion"), config.get("kind")
    if (told_version, told_kind) != (api_version, kind):
        group, _, version = (told_version if isinstance(told_version, str) else "").rpartition("/")
        shown = f"{group}/{version}, Kind={told_kind if isinstance(told_kind, str) else ''}"
        raise ApiError.bad_request(f"invalid object type: {shown}")
    meta = config.get("metadata")
    if isinstance(meta, dict) and meta.get("managedFields") is not None:
        raise ApiError.bad_request("metadata.managedFields must be nil")


def as_api_error(error: Exception, config: dict[str, Any]) -> ApiError:
    """What is wrong with an apply, as the client is told."""
    if isinstance(error, Conflicts):
        causes = [StatusCause(reason="FieldManagerConflict", message=c.message, field=c.field) for c in error.conflicts]
        return ApiError.make(409, "Conflict", str(error), causes=causes)
    if isinstance(error, TypedError):
        # Upstream answers 500 here; what the client sent is the client's fault.
        return ApiError.bad_request(f"failed to create typed patch object ({_shown(config)}): {error}")
    return ApiError.bad_request(f"failed to convert new object ({_shown(config)}) to proper version: {error}")


def _shown(config: dict[str, Any]) -> str:
    meta = config.get("metadata")
    namespace, name = (
        (str(meta.get("namespace") or ""), str(meta.get("name") or "")) if isinstance(meta, dict) else ("", "")
    )
    group, _, version = str(config.get("apiVersion")).rpartition("/")
    return f"{namespace}/{name}; {group}/{version}, Kind={config.get('kind')}"


class _Apply:
    """The current object to the one with what is applied: a fresh one a call."""

    def __init__(
        self,
        handlers: Handlers,
        request: Request,
        served: Served,
        config: dict[str, Any],
        owner: Owner,
        tell: Callable[[], None],
    ) -> None:
        self._handlers = handlers
        self._request = request
        self._served = served
        self._config = config
        self._owner = owner
        self._tell = tell
        self._is_forced = is_forced(request)

    def __call__(self, current: Entry) -> Any:
        served = self._served
        obj = self._applied(served.store.codec.view(current))
        metadata.check_namespace(served.resource, obj.metadata, self._request.info.namespace)
        query.check_version(obj.metadata.resourceVersion)
        stored = served.to_stored(obj)
        served.check(stored, current.object)
        if stored.metadata.resourceVersion in ("0", str(current.revision)):
            stored.metadata.resourceVersion = ""
        return stored

    def missing(self) -> Any:
        """The object where there is none, for those who may create."""
        served, info = self._served, self._request.info
        self._handlers.authorize(self._request, "create")
        obj = self._applied(None)
        if obj.metadata.uid:
            why = (
                f"uid mismatch: the provided object specified uid {obj.metadata.uid}, and no existing object was found"
            )
            raise ApiError.conflict(served.resource.group, served.resource.plural, info.name, why)
        metadata.check_namespace(served.resource, obj.metadata, info.namespace)
        metadata.check_name(obj.metadata, info.name)
        stored = served.to_stored(obj)
        served.check(stored, None)
        return stored

    def _applied(self, old: Any | None) -> Any:
        ownership = self._served.store.ownership
        try:
            value = ownership.applied(old, self._config, self._owner, force=self._is_forced)
            if old is not None:
                value["metadata"] = _keep_version(self._config, value["metadata"])
            obj = self._served.codec.from_json(value)[0]
        except (Conflicts, ValueError, RecursionError, msgspec.MsgspecError) as error:
            raise as_api_error(error, self._config) from None
        self._tell()
        return obj


def _keep_version(config: dict[str, Any], meta: dict[str, Any]) -> dict[str, Any]:
    """A resourceVersion is a precondition only if the client named it; so is a name only then."""
    told = config.get("metadata")
    told = told if isinstance(told, dict) else {}
    return {**meta, "resourceVersion": told.get("resourceVersion") or "", "name": told.get("name") or ""}
