"""The scale subresource: one face for all that has replicas.

GET, PUT and PATCH of autoscaling/v1 Scale on deployments, replica sets, replication controllers and stateful sets.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kybern.api import codec
from kybern.api.autoscaling_v1 import Scale
from kybern.api.meta_v1 import ObjectMeta
from kybern.apiserver import negotiate, query
from kybern.apiserver.handlers import body, forms
from kybern.apiserver.handlers.context import Handlers
from kybern.apiserver.handlers.patch import ACCEPTED, merger
from kybern.apiserver.registry import metadata
from kybern.apiserver.registry.registry import Served
from kybern.apiserver.registry.resource_store import Write
from kybern.apiserver.request import Request, Response
from kybern.apiserver.watch_cache.entry import Entry
from kybern.machinery import labels
from kybern.machinery.status import ApiError, invalid

_DEFINITION = "io.k8s.api.autoscaling.v1.Scale"


def scale_of(obj: Any) -> Scale:
    """What an object with replicas looks like as a Scale."""
    meta = obj.metadata
    scale = Scale(
        metadata=ObjectMeta(
            name=meta.name,
            namespace=meta.namespace,
            uid=meta.uid,
            resourceVersion=meta.resourceVersion,
            creationTimestamp=meta.creationTimestamp,
        )
    )
    scale.spec.replicas = obj.spec.replicas if obj.spec.replicas is not None else 1
    scale.status.replicas = obj.status.replicas or 0
    selector = obj.spec.selector
    chosen = labels.from_map(selector) if isinstance(selector, dict) else labels.from_label_selector(selector)
    scale.status.selector = str(chosen)
    return scale


async def scale(handlers: Handlers, request: Request, served: Served) -> Response:
    """Read or write the scale of one object. Raises ApiError."""
    accepted = negotiate.choose(request.headers.get("accept", ""))
    info = request.info
    if info.verb == "get":
        return _answer(served.store.entry(info.namespace, info.name).object, accepted)
    change = _replace(request) if info.verb == "update" else _patch(request)
    write = Write(request.user, body.is_dry_run(request), warnings=request.warnings)
    data, _ = await served.store.update(info.namespace, info.name, change, write)
    return _answer(served.store.codec.decode(data), accepted)


def _answer(obj: Any, accepted: negotiate.Accepted) -> Response:
    return Response(body=forms.encoded(codec.encode(scale_of(obj)), accepted), content_type=accepted.content_type)


def _scaled(current: Entry, wanted: Scale) -> Any:
    """The current object with the replicas wanted; the Scale's preconditions become the object's."""
    replicas = wanted.spec.replicas or 0
    if replicas < 0:
        error = invalid("spec.replicas", replicas, "must be greater than or equal to 0")
        raise ApiError.invalid("autoscaling", "Scale", current.name, [error])
    obj = current.decode()
    obj.spec.replicas = replicas
    obj.metadata.resourceVersion = wanted.metadata.resourceVersion
    if wanted.metadata.uid:
        obj.metadata.uid = wanted.metadata.uid
    return obj


def _check_name(wanted: Scale, name: str) -> None:
    metadata.check_name(wanted.metadata, name)


def _replace(request: Request) -> Any:
    wanted = body.decode(request, Scale, "autoscaling/v1", "Scale")
    _check_name(wanted, request.info.name)
    return lambda current: _scaled(current, wanted)


def _patch(request: Request) -> Any:
    media = body.media_type(request)
    if media not in ACCEPTED:
        raise ApiError.unsupported_media_type(ACCEPTED)
    merge = merger(media, body.read_json(request.body), _DEFINITION)

    def change(current: Entry) -> Any:
        patched = merge(codec.to_json(scale_of(current.object)))
        try:
            wanted, _ = codec.from_json(Scale, patched)
        except (msgspec.ValidationError, ValueError) as error:
            fault = invalid("patch", patched, str(error))
            raise ApiError.invalid("", "", "", [fault]) from None
        _check_name(wanted, current.name)
        if query.check_version(wanted.metadata.resourceVersion) in ("0", str(current.revision)):
            wanted.metadata.resourceVersion = ""
        return _scaled(current, wanted)

    return change
