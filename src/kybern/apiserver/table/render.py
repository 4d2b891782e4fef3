"""Table and PartialObjectMetadata documents, as bytes.

Fed by handlers/forms with decoded objects; kinds without a printer get name and time of creation.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from kybern.api import codec
from kybern.api.resource import Resource
from kybern.apiserver.table import cluster, devices, network, pods, policy, storage, workloads
from kybern.apiserver.table.column import CREATED_AT, Column, Printer, printer
from kybern.apiserver.table.descriptions import COMMON, SPECIAL


def _described(key: str, plain: Printer) -> Printer:
    """A printer whose columns say what they mean."""
    own = SPECIAL.get(key, {})
    told = (own.get(c.name) or COMMON.get(c.name, "") for c in plain.columns)
    columns = tuple(dataclasses.replace(c, description=d) for c, d in zip(plain.columns, told, strict=True))
    return dataclasses.replace(plain, columns=columns)


_PRINTERS: dict[str, Printer] = {
    **pods.PRINTERS,
    **workloads.PRINTERS,
    **network.PRINTERS,
    **storage.PRINTERS,
    **cluster.PRINTERS,
    **policy.PRINTERS,
    **devices.PRINTERS,
}
PRINTERS = {key: _described(key, printer) for key, printer in _PRINTERS.items()}
_PLAIN = _described("", printer(lambda obj, _: [obj.metadata.name, obj.metadata.creationTimestamp], "Name", CREATED_AT))


class _Partial(msgspec.Struct):
    """What PartialObjectMetadata keeps of an object."""

    metadata: msgspec.Raw


_partial_decoder = msgspec.json.Decoder(_Partial)


def printer_of(resource: Resource, own: Printer | None = None) -> Printer:
    """How a resource is printed; `own`: how it says so itself."""
    if own is not None:
        return own
    key = "events" if resource.plural == "events" else resource.group_resource
    return PRINTERS.get(key, _PLAIN)


def render(
    resource: Resource,
    objects: Sequence[Any],
    now: datetime.datetime,
    *,
    version: str = "v1",
    include: str = "Metadata",
    resource_version: str | None = "",
    continue_token: str = "",
    remaining: int | None = None,
    chosen: Printer | None = None,
    shown: Sequence[Any] | None = None,
    columns: bool = True,
) -> bytes:
    """A Table with a row an object. `include`: None, Metadata or Object, of each object in its row.

    `resource_version` None: that of the one object. `shown`: what is put into the rows, where that is not `objects`.
    `columns`: whether they are told what they are; a watch does so once.
    """
    chosen = printer_of(resource, chosen)
    if resource_version is None:
        resource_version = objects[0].metadata.resourceVersion or ""
    pairs = list(zip(objects, objects if shown is None else shown, strict=True))
    if chosen.order is not None:
        order = chosen.order
        pairs.sort(key=lambda pair: order(pair[0]))
    metadata: dict[str, Any] = {"resourceVersion": resource_version}
    if continue_token:
        metadata["continue"] = continue_token
    if remaining:
        metadata["remainingItemCount"] = remaining
    return codec.encode(
        {
            "kind": "Table",
            "apiVersion": f"meta.k8s.io/{version}",
            "metadata": metadata,
            "columnDefinitions": _definitions(chosen.columns) if columns else None,
            "rows": [_row(obj, told, chosen, now, version, include) for obj, told in pairs],
        }
    )


def _definitions(columns: Sequence[Column]) -> list[dict[str, Any]]:
    return [column.document for column in columns]


def _row(obj: Any, told: Any, chosen: Printer, now: datetime.datetime, version: str, include: str) -> dict[str, Any]:
    row: dict[str, Any] = {"cells": chosen.cells(obj, now)}
    conditions = chosen.conditions(obj) if chosen.conditions is not None else ()
    if conditions:
        row["conditions"] = conditions
    if include == "Object":
        row["object"] = told
    elif include != "None":
        row["object"] = {
            "kind": "PartialObjectMetadata",
            "apiVersion": f"meta.k8s.io/{version}",
            "metadata": obj.metadata,
        }
    else:
        row["object"] = None
    return row


def bookmark(
    resource: Resource,
    version: str,
    resource_version: str,
    annotations: Mapping[str, str],
    chosen: Printer | None = None,
    *,
    columns: bool = True,
) -> bytes:
    """A Table for a BOOKMARK event: one row that carries the revision in its object, as clients read it."""
    chosen = printer_of(resource, chosen)
    metadata: dict[str, Any] = {"resourceVersion": resource_version, "creationTimestamp": None}
    if annotations:
        metadata["annotations"] = dict(annotations)
    partial = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}
    return codec.encode(
        {
            "kind": "Table",
            "apiVersion": f"meta.k8s.io/{version}",
            "metadata": {"resourceVersion": resource_version},
            "columnDefinitions": _definitions(chosen.columns) if columns else None,
            "rows": [{"cells": chosen.empty, "object": partial}],
        }
    )


def partial_object(data: bytes, version: str) -> bytes:
    """PartialObjectMetadata of an object's bytes: its metadata is taken over as it stands."""
    kept = _partial_decoder.decode(data).metadata
    head = f'{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/{version}","metadata":'
    return b"%s%s}" % (head.encode(), bytes(kept))
