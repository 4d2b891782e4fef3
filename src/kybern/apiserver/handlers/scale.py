"""The scale subresource: one face for all that has replicas.

GET, PUT and PATCH of autoscaling/v1 Scale on deployments, replica sets, replication controllers and stateful sets.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import msgspec

from kybern.api import codec
from kybern.api.autoscaling_v1 import Scale
from kybern.api.resource import Resource
from kybern.apiserver import negotiate, query, table
from kybern.apiserver.handlers import apply, body, forms
from kybern.apiserver.handlers.context import Handlers
from kybern.apiserver.handlers.manager import applier_of, owner_of
from kybern.apiserver.handlers.patch import ACCEPTED, JSON_PATCH, MERGE_PATCH, merger
from kybern.apiserver.registry import metadata
from kybern.apiserver.registry.ownership import Owner
from kybern.apiserver.registry.registry import Served
from kybern.apiserver.registry.resource_store import ResourceStore, Write
from kybern.apiserver.request import Request, Response
from kybern.apiserver.watch_cache.entry import Entry
from kybern.machinery import validation
from kybern.machinery.merge.structured import schema, typed
from kybern.machinery.merge.structured.errors import Conflict, Conflicts
from kybern.machinery.status import ApiError, FieldError, invalid

_OF_CUSTOM = (JSON_PATCH, MERGE_PATCH)
_DEFINITION = "io.k8s.api.autoscaling.v1.Scale"
# As which a Scale is shown in other forms; it is a resource of its own nowhere.
_SCALES = Resource("autoscaling", "v1", "scales", "scale", "Scale", True, (), module="autoscaling_v1")


async def scale(handlers: Handlers, request: Request, served: Served) -> Response:
    """Read or write the scale of one object. Raises ApiError."""
    accepted = negotiate.choose(request.headers.get("accept", ""))
    if served.has_protobuf:
        negotiate.check_shape(accepted, _SCALES, is_list=False)
    elif accepted.shape:
        accepted = dataclasses.replace(accepted, shape="")
    include = query.include_object(request) if accepted.shape == "Table" else ""
    tell = functools.partial(_answer, handlers, served.store, accepted, include)
    info, store = request.info, served.store
    if info.verb == "get":
        return tell(store.codec.view(store.entry(info.namespace, info.name)))
    is_apply = info.verb == "patch" and body.media_type(request) == apply.MEDIA
    owner = applier_of(request, served) if is_apply else owner_of(request, served)
    if is_apply:
        change = _apply(request, served, owner)
    else:
        change = _replace(request, store) if info.verb == "update" else _patch(request, store)
    write = Write(
        request.user,
        body.is_dry_run(request),
        warnings=request.warnings,
        owner=owner,
        is_apply=is_apply,
        face=_Face(store),
    )
    data, _ = await store.update(info.namespace, info.name, change, write)
    if served.warm is not None:
        await served.warm((data,))
    return tell(served.from_stored(data))


def _answer(handlers: Handlers, store: ResourceStore, accepted: negotiate.Accepted, include: str, obj: Any) -> Response:
    shown = store.strategy.scale_of(obj)
    if accepted.shape == "Table":
        now = handlers.clock.now()
        found = table.render(
            _SCALES, [shown], now, version=accepted.shape_version, include=include, resource_version=None
        )
    else:
        found = codec.encode(shown)
        if accepted.shape:
            found = table.partial_object(found, accepted.shape_version)
    return Response(body=forms.encoded(found, accepted), content_type=accepted.content_type)


class _Face:
    """Admission is shown a Scale, and what it makes of the replicas counts."""

    subresource = "scale"

    def __init__(self, store: ResourceStore) -> None:
        self._strategy = store.strategy
        self._is_built_in = store.codec.struct is not None

    def of(self, obj: Any) -> Scale:
        return self._strategy.scale_of(obj)

    def put_back(self, obj: Any, seen: Any) -> None:
        wanted = _replicas(seen, obj.metadata.name) if self._is_built_in else seen.spec.replicas or 0
        self._strategy.set_replicas(obj, wanted)


def _replicas(wanted: Scale, name: str) -> int:
    """Raises ApiError 422."""
    replicas = wanted.spec.replicas or 0
    _check_replicas(replicas, name)
    return replicas


def _check(wanted: Scale, store: ResourceStore, request: Request) -> None:
    """What is said of a whole Scale. Raises ApiError."""
    metadata.check_namespace(store.resource, wanted.metadata, request.info.namespace)
    if store.codec.struct is None:
        return  # of a custom resource, which is judged as such
    errors: list[FieldError] = []
    metadata.drop_repeated_owners(wanted.metadata, request.warnings)
    validation.check_lone_metadata(wanted.metadata, errors)
    if errors:
        raise ApiError.invalid("autoscaling", "Scale", wanted.metadata.name, errors)


def _scaled(store: ResourceStore, current: Entry, wanted: Scale) -> Any:
    """The current object with the replicas wanted; the Scale's preconditions become the object's."""
    obj = codec.clone(store.codec.view(current))
    is_custom = store.codec.struct is None  # then its own validation judges the number
    store.strategy.set_replicas(obj, (wanted.spec.replicas or 0) if is_custom else _replicas(wanted, current.name))
    obj.metadata.resourceVersion = wanted.metadata.resourceVersion
    if wanted.metadata.uid:
        obj.metadata.uid = wanted.metadata.uid
    return obj


def _check_replicas(replicas: int, name: str) -> None:
    if replicas < 0:
        error = invalid("spec.replicas", replicas, "must be greater than or equal to 0")
        raise ApiError.invalid("autoscaling", "Scale", name, [error])


def _check_name(wanted: Scale, name: str) -> None:
    metadata.check_name(wanted.metadata, name)


def _replace(request: Request, store: ResourceStore) -> Any:
    wanted = body.decode(request, Scale, "autoscaling/v1", "Scale")
    _check_name(wanted, request.info.name)
    _check(wanted, store, request)
    return lambda current: _scaled(store, current, wanted)


def _patch(request: Request, store: ResourceStore) -> Any:
    media = body.media_type(request)
    accepted = ACCEPTED if store.codec.struct is not None else _OF_CUSTOM
    if media not in ACCEPTED:
        raise ApiError.unsupported_body()
    if media not in accepted:
        raise ApiError.unsupported_media_type((*accepted, apply.MEDIA))
    patch = body.read_json(request.body)
    if media != JSON_PATCH and not isinstance(patch, dict):
        told = f"json: cannot unmarshal {body.go_name(patch)} into Go value of type map[string]interface {{}}"
        raise ApiError.bad_request(f"error decoding patch: {told}")
    merge = merger(media, patch, _DEFINITION)

    def change(current: Entry) -> Any:
        patched = merge(codec.to_json(store.strategy.scale_of(store.codec.view(current))))
        try:
            wanted, _ = codec.from_json(Scale, patched)
            if (wanted.apiVersion, wanted.kind) != ("autoscaling/v1", "Scale"):
                raise ValueError(f'no kind "{wanted.kind}" is registered for version "{wanted.apiVersion}"')
        except (msgspec.ValidationError, ValueError) as error:
            fault = invalid("patch", patched, str(error))
            raise ApiError.invalid("", "", "", [fault]) from None
        _check_name(wanted, current.name)
        _check(wanted, store, request)
        if query.check_version(wanted.metadata.resourceVersion) in ("0", str(current.revision)):
            wanted.metadata.resourceVersion = ""
        return _scaled(store, current, wanted)

    return change


def _apply(request: Request, served: Served, owner: Owner) -> Any:
    """What is applied to a Scale is applied to the object: its managers are the object's."""
    strictness = body.field_validation(request)
    config, repeated = apply.read(request, strictness)
    apply.check_kind(config, "autoscaling/v1", "Scale")
    try:
        typed.check(schema.of_definition(_DEFINITION), config)
        wanted, _ = codec.from_json(Scale, config)
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise apply.as_api_error(error, config) from None
    apply.tell(request, strictness, repeated)
    store = served.store
    inner: dict[str, Any] = {"name": request.info.name}
    inner = {"apiVersion": owner.api_version, "kind": served.resource.kind, "metadata": inner}
    if "replicas" in (config.get("spec") or {}):
        value: Any = wanted.spec.replicas or 0
        for name in reversed(store.strategy.replicas_path):
            value = {name: value}
        inner |= value
    force = apply.is_forced(request)

    def change(current: Entry) -> Any:
        try:
            applied = store.ownership.applied(store.codec.view(current), inner, owner, force=force)
            obj = served.to_stored(served.codec.from_json(applied)[0])
        except Conflicts as error:
            raise apply.as_api_error(_as_scale(error, owner), config) from None
        except (ValueError, msgspec.MsgspecError) as error:
            raise apply.as_api_error(error, config) from None
        if wanted.metadata.name:
            _check_name(wanted, current.name)
        scale_of = store.strategy.scale_of(obj)
        _check_replicas(scale_of.spec.replicas or 0, current.name)
        obj.metadata.resourceVersion = wanted.metadata.resourceVersion
        obj.metadata.uid = wanted.metadata.uid or obj.metadata.uid
        return obj

    return change


def _as_scale(error: Conflicts, owner: Owner) -> Conflicts:
    """Conflicts as somebody sees them who knows scales only."""
    mine = f" using {owner.api_version}"
    return Conflicts(
        [
            Conflict(
                c.manager.removesuffix(mine) + " using autoscaling/v1" if c.manager.endswith(mine) else c.manager,
                c.path,
            )
            for c in error.conflicts
        ]
    )
