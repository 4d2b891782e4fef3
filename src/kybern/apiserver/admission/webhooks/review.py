"""The AdmissionReview that a webhook is sent. Pure. Made for plugin. Source: admission.k8s.io/v1."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from kybern.api import codec
from kybern.api.resource import Resource
from kybern.apiserver.admission import Attributes


class _Kind(msgspec.Struct):
    group: str
    version: str
    kind: str


class _Resource(msgspec.Struct):
    group: str
    version: str
    resource: str


class _UserInfo(msgspec.Struct, omit_defaults=True):
    username: str | UnsetType = UNSET
    uid: str | UnsetType = UNSET
    groups: tuple[str, ...] | UnsetType = UNSET
    extra: dict[str, tuple[str, ...]] | UnsetType = UNSET


class _Request(msgspec.Struct, kw_only=True):
    uid: str
    kind: _Kind
    resource: _Resource
    subResource: str | UnsetType
    requestKind: _Kind
    requestResource: _Resource
    requestSubResource: str | UnsetType
    name: str | UnsetType
    namespace: str | UnsetType
    operation: str
    userInfo: _UserInfo
    object: Raw | None
    oldObject: Raw | None
    dryRun: bool
    options: Any


class _Review(msgspec.Struct):
    kind: str
    apiVersion: str
    request: _Request


def render(a: Attributes, uid: str, review: str, wanted: Resource, new: bytes | None, old: bytes | None) -> bytes:
    """The body. `wanted` is the version the webhook asked for; `new` and `old` are JSON in that version."""
    asked = a.as_requested
    subresource = a.subresource or UNSET
    name = "" if a.is_collection else a.name
    # A namespace is in itself.
    namespace = a.namespace or (a.name if a.group_resource == "namespaces" else "")
    request = _Request(
        uid=uid,
        kind=_kind_of(a, wanted),
        resource=_Resource(wanted.group, wanted.version, wanted.plural),
        subResource=subresource,
        requestKind=_kind_of(a, asked),
        requestResource=_Resource(asked.group, asked.version, asked.plural),
        requestSubResource=subresource,
        name=name or UNSET,
        namespace=namespace or UNSET,
        operation=a.operation,
        userInfo=_UserInfo(a.user.name, a.user.uid or UNSET, a.user.groups or UNSET, dict(a.user.extra) or UNSET),
        object=Raw(new) if new is not None else None,
        oldObject=Raw(old) if old is not None else None,
        dryRun=a.dry_run,
        options=options_of(a),
    )
    return codec.encode(_Review("AdmissionReview", f"admission.k8s.io/{review}", request))


def is_whole(a: Attributes, obj: Any) -> bool:
    """Whether the object under admission is the resource's own: not a Scale, an Eviction, options of CONNECT."""
    return getattr(obj, "kind", "") == a.resource.kind


def _kind_of(a: Attributes, resource: Resource) -> _Kind:
    obj = a.object if a.object is not None else a.old
    if is_whole(a, obj):
        return _Kind(resource.group, resource.version, resource.kind)
    assert obj is not None
    kind, api_version = (obj["kind"], obj["apiVersion"]) if isinstance(obj, dict) else (obj.kind, obj.apiVersion)
    group, _, version = api_version.rpartition("/")
    return _Kind(group, version, kind)


_OPTIONS = {"CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions"}


def options_of(a: Attributes) -> dict[str, Any] | None:
    """CreateOptions, UpdateOptions or DeleteOptions as JSON; None for CONNECT."""
    kind = _OPTIONS.get(a.operation)
    if kind is None:
        return None
    found: dict[str, Any] = {"kind": kind, "apiVersion": "meta.k8s.io/v1"}
    if a.options is not None:
        given = a.options if isinstance(a.options, dict) else codec.to_json(a.options)
        found.update((k, v) for k, v in given.items() if k not in found)
    if a.dry_run:
        found["dryRun"] = ["All"]
    return found
