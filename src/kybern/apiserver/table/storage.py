"""Rows of what keeps data: volumes, claims, classes; config maps and secrets."""

from __future__ import annotations

import datetime
from typing import Any

from kybern.apiserver.table.column import NONE, UNSET, Column, Printer, age, boolean, integer, printer

_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
_DEFAULT_CLASS = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")


def _modes(modes: list[str]) -> str:
    return ",".join(short for mode, short in _MODES.items() if mode in modes)


def _volume(obj: Any, now: datetime.datetime) -> list[Any]:
    spec = obj.spec
    claim = f"{spec.claimRef.namespace}/{spec.claimRef.name}" if spec.claimRef is not None else ""
    phase = "Terminating" if obj.metadata.deletionTimestamp is not None else obj.status.phase
    return [
        obj.metadata.name,
        spec.capacity.get("storage", ""),
        _modes(spec.accessModes),
        spec.persistentVolumeReclaimPolicy,
        phase,
        claim,
        spec.storageClassName or "",
        spec.volumeAttributesClassName or UNSET,
        obj.status.reason or "",
        age(obj, now),
        spec.volumeMode or UNSET,
    ]


def _claim(obj: Any, now: datetime.datetime) -> list[Any]:
    spec, status = obj.spec, obj.status
    is_bound = bool(spec.volumeName)
    phase = "Terminating" if obj.metadata.deletionTimestamp is not None else status.phase
    return [
        obj.metadata.name,
        phase,
        spec.volumeName or "",
        status.capacity.get("storage", "0") if is_bound else "",
        _modes(status.accessModes) if is_bound else "",
        spec.storageClassName or "",
        status.currentVolumeAttributesClassName or spec.volumeAttributesClassName or UNSET,
        age(obj, now),
        spec.volumeMode or UNSET,
    ]


def _class(obj: Any, now: datetime.datetime) -> list[Any]:
    name = obj.metadata.name
    if any(obj.metadata.annotations.get(key) == "true" for key in _DEFAULT_CLASS):
        name += " (default)"
    expansion = bool(obj.allowVolumeExpansion)
    return [
        name,
        obj.provisioner,
        obj.reclaimPolicy or "Delete",
        obj.volumeBindingMode or "Immediate",
        expansion,
        age(obj, now),
    ]


def _attachment(obj: Any, now: datetime.datetime) -> list[Any]:
    spec = obj.spec
    volume = spec.source.persistentVolumeName or ""
    return [obj.metadata.name, spec.attacher, volume, spec.nodeName, obj.status.attached, age(obj, now)]


def _driver(obj: Any, now: datetime.datetime) -> list[Any]:
    spec = obj.spec
    audiences = ",".join(t.audience for t in spec.tokenRequests) or UNSET
    modes = ",".join(spec.volumeLifecycleModes) or "Persistent"
    required = spec.attachRequired is not False
    return [
        obj.metadata.name,
        required,
        bool(spec.podInfoOnMount),
        bool(spec.storageCapacity),
        audiences,
        bool(spec.requiresRepublish),
        modes,
        age(obj, now),
    ]


def _node(obj: Any, now: datetime.datetime) -> list[Any]:
    return [obj.metadata.name, len(obj.spec.drivers), age(obj, now)]


def _attributes_class(obj: Any, now: datetime.datetime) -> list[Any]:
    return [obj.metadata.name, obj.driverName, age(obj, now)]


def _config_map(obj: Any, now: datetime.datetime) -> list[Any]:
    return [obj.metadata.name, len(obj.data) + len(obj.binaryData), age(obj, now)]


def _secret(obj: Any, now: datetime.datetime) -> list[Any]:
    return [obj.metadata.name, obj.type or NONE, len(obj.data), age(obj, now)]


PRINTERS: dict[str, Printer] = {
    "persistentvolumes": printer(
        _volume,
        "Name",
        "Capacity",
        "Access Modes",
        "Reclaim Policy",
        "Status",
        "Claim",
        "StorageClass",
        "VolumeAttributesClass",
        "Reason",
        "Age",
        "VolumeMode+",
    ),
    "persistentvolumeclaims": printer(
        _claim,
        "Name",
        "Status",
        "Volume",
        "Capacity",
        "Access Modes",
        "StorageClass",
        "VolumeAttributesClass",
        "Age",
        "VolumeMode+",
    ),
    "storageclasses.storage.k8s.io": printer(
        _class, "Name", "Provisioner", "ReclaimPolicy", "VolumeBindingMode", "AllowVolumeExpansion", "Age"
    ),
    "volumeattachments.storage.k8s.io": printer(
        _attachment, "Name", Column("Attacher", format="name"), "PV", "Node", boolean("Attached"), "Age"
    ),
    "csidrivers.storage.k8s.io": printer(
        _driver,
        "Name",
        boolean("AttachRequired"),
        boolean("PodInfoOnMount"),
        boolean("StorageCapacity"),
        "TokenRequests",
        boolean("RequiresRepublish"),
        "Modes",
        "Age",
    ),
    "csinodes.storage.k8s.io": printer(_node, "Name", integer("Drivers"), "Age"),
    "volumeattributesclasses.storage.k8s.io": printer(_attributes_class, "Name", "DriverName", "Age"),
    "configmaps": printer(_config_map, "Name", "Data", "Age"),
    "secrets": printer(_secret, "Name", "Type", "Data", "Age"),
}
