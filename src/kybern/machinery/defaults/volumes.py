"""Defaults of the volume sources that pods and PersistentVolumes share. Fed by pods and core."""

from __future__ import annotations

from typing import Any

# Every volume source of Volume and PersistentVolumeSpec but those that defaults.pods handles itself.
_SOURCES = (
    "hostPath", "persistentVolumeClaim", "nfs", "csi", "iscsi", "rbd", "scaleIO", "azureDisk", "awsElasticBlockStore",
    "azureFile", "cephfs", "cinder", "fc", "flexVolume", "flocker", "gcePersistentDisk", "gitRepo", "glusterfs",
    "local", "photonPersistentDisk", "portworxVolume", "quobyte", "storageos", "vsphereVolume",
)  # fmt: skip


def fill_sources(holder: Any) -> bool:
    """Default the sources that `holder` (a Volume or a PersistentVolumeSpec) has; False if it has none."""
    found = False
    for name in _SOURCES:
        source = getattr(holder, name, None)
        if source is not None:
            _fill(name, source)
            found = True
    return found


def _fill(name: str, source: Any) -> None:
    match name:
        case "hostPath":
            source.type = source.type or ""
        case "iscsi":
            source.iscsiInterface = source.iscsiInterface or "default"
        case "rbd":
            source.pool = source.pool or "rbd"
            source.user = source.user or "admin"
            source.keyring = source.keyring or "/etc/ceph/keyring"
        case "scaleIO":
            source.storageMode = source.storageMode or "ThinProvisioned"
            source.fsType = source.fsType or "xfs"
        case "azureDisk":
            if source.cachingMode is None:
                source.cachingMode = "ReadWrite"
            if source.kind is None:
                source.kind = "Shared"
            source.fsType = "ext4" if source.fsType is None else source.fsType
            source.readOnly = bool(source.readOnly)
