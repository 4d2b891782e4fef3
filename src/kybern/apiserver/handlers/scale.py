"""The scale subresource: one face for all that has replicas.

GET, PUT and PATCH of autoscaling/v1 Scale on deployments, replica sets, replication controllers and stateful sets.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kybern.api import codec
from kybern.api.autoscaling_v1 import Scale
from kybern.apiserver import negotiate, query
from kybern.apiserver.handlers import body, forms
from kybern.apiserver.handlers.context import Handlers
from kybern.apiserver.handlers.patch import ACCEPTED, merger
from kybern.apiserver.registry import metadata
from kybern.apiserver.registry.registry import Served
from kybern.apiserver.registry.resource_store import ResourceStore, Write
from kybern.apiserver.request import Request, Response
from kybern.apiserver.watch_cache.entry import Entry
from kybern.machinery.status import ApiError, invalid

_DEFINITION = "io.k8s.api.autoscaling.v1.Scale"


async def scale(handlers: Handlers, request: Request, served: Served) -> Response:
    """Read or write the scale of one object. Raises ApiError."""
    accepted = negotiate.choose(request.headers.get("accept", ""))
    info, store = request.info, served.store
    if info.verb == "get":
        return _answer(store, store.codec.view(store.entry(info.namespace, info.name)), accepted)
    change = _replace(request, store) if info.verb == "update" else _patch(request, store)
    write = Write(request.user, body.is_dry_run(request), warnings=request.warnings)
    data, _ = await store.update(info.namespace, info.name, change, write)
    return _answer(store, served.from_stored(data), accepted)


def _answer(store: ResourceStore, obj: Any, accepted: negotiate.Accepted) -> Response:
    found = codec.encode(store.strategy.scale_of(obj))
    return Response(body=forms.encoded(found, accepted), content_type=accepted.content_type)


def _scaled(store: ResourceStore, current: Entry, wanted: Scale) -> Any:
    """The current object with the replicas wanted; the Scale's preconditions become the object's."""
    replicas = wanted.spec.replicas or 0
    if replicas < 0:
        error = invalid("spec.replicas", replicas, "must be greater than or equal to 0")
        raise ApiError.invalid("autoscaling", "Scale", current.name, [error])
    obj = codec.clone(store.codec.view(current))
    store.strategy.set_replicas(obj, replicas)
    obj.metadata.resourceVersion = wanted.metadata.resourceVersion
    if wanted.metadata.uid:
        obj.metadata.uid = wanted.metadata.uid
    return obj


def _check_name(wanted: Scale, name: str) -> None:
    metadata.check_name(wanted.metadata, name)


def _replace(request: Request, store: ResourceStore) -> Any:
    wanted = body.decode(request, Scale, "autoscaling/v1", "Scale")
    _check_name(wanted, request.info.name)
    return lambda current: _scaled(store, current, wanted)


def _patch(request: Request, store: ResourceStore) -> Any:
    media = body.media_type(request)
    if media not in ACCEPTED:
        raise ApiError.unsupported_media_type(ACCEPTED)
    merge = merger(media, body.read_json(request.body), _DEFINITION)

    def change(current: Entry) -> Any:
        patched = merge(codec.to_json(store.strategy.scale_of(store.codec.view(current))))
        try:
            wanted, _ = codec.from_json(Scale, patched)
        except (msgspec.ValidationError, ValueError) as error:
            fault = invalid("patch", patched, str(error))
            raise ApiError.invalid("", "", "", [fault]) from None
        _check_name(wanted, current.name)
        if query.check_version(wanted.metadata.resourceVersion) in ("0", str(current.revision)):
            wanted.metadata.resourceVersion = ""
        return _scaled(store, current, wanted)

    return change
