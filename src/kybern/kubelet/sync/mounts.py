"""The mounts of one container: its volumes, /etc/hosts and the file for its last words.

Blocking (subPath binds, files); called by apply in a thread.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kybern.api.core_v1 import Pod, VolumeMount
from kybern.kubelet import expansion
from kybern.kubelet.cri.contract import Device, Mount, Propagation
from kybern.kubelet.failures import Reason, StartFailed
from kybern.kubelet.podkeys import AnyContainer
from kybern.kubelet.volumes import subpath
from kybern.kubelet.volumes.contract import HostVolume

ETC_HOSTS = "/etc/hosts"
TERMINATION_PATH = "/dev/termination-log"
_PROPAGATION = {
    "None": Propagation.PRIVATE,
    "HostToContainer": Propagation.HOST_TO_CONTAINER,
    "Bidirectional": Propagation.BIDIRECTIONAL,
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pod's files are on the node."""

    root: Path  # <kubelet root>/pods/<uid>

    @property
    def hosts(self) -> Path:
        return self.root / "etc-hosts"

    def last_words(self, container: str, attempt: int) -> Path:
        """Of one instance of a container."""
        return self.root / "containers" / container / str(attempt)

    def sub_path(self, volume: str, container: str, index: int) -> Path:
        return self.root / "volume-subpaths" / volume / container / str(index)


def build(
    pod: Pod, container: AnyContainer, volumes: Mapping[str, HostVolume], env: Mapping[str, str], place: Place,
    attempt: int,
) -> tuple[tuple[Mount, ...], tuple[Device, ...]]:  # fmt: skip
    """Raises StartFailed (CreateContainerConfigError)."""
    mounts: list[Mount] = []
    for index, wanted in enumerate(container.volumeMounts):
        volume = volumes.get(wanted.name)
        if volume is None:
            raise StartFailed(
                Reason.CONFIG, f"cannot find volume {wanted.name!r} to mount into container {container.name!r}"
            )
        mounts.append(_volume_mount(wanted, volume, container, env, place, index))
    taken = {os.path.normpath(m.container_path) for m in mounts}
    if ETC_HOSTS not in taken:
        mounts.append(Mount(ETC_HOSTS, str(place.hosts), selinux_relabel=not pod.spec.hostNetwork))
    words = container.terminationMessagePath or TERMINATION_PATH
    if words not in taken:
        mounts.append(Mount(words, str(_make_last_words(place.last_words(container.name, attempt)))))
    return tuple(mounts), _devices(container, volumes)


def _devices(container: AnyContainer, volumes: Mapping[str, HostVolume]) -> tuple[Device, ...]:
    devices = []
    for wanted in container.volumeDevices:
        volume = volumes.get(wanted.name)
        if volume is None or not volume.device:
            raise StartFailed(
                Reason.CONFIG, f"cannot find block volume {wanted.name!r} of container {container.name!r}"
            )
        devices.append(Device(wanted.devicePath, volume.device, "r" if volume.readonly else "mrw"))
    return tuple(devices)


def _volume_mount(
    wanted: VolumeMount,
    volume: HostVolume,
    container: AnyContainer,
    env: Mapping[str, str],
    place: Place,
    index: int,
) -> Mount:
    readonly = bool(wanted.readOnly) or volume.readonly
    target = wanted.mountPath if os.path.isabs(wanted.mountPath) else "/" + wanted.mountPath
    inside = _sub_path(wanted, env)
    if volume.image:
        return Mount(target, "", readonly=True, image=volume.image, image_sub_path=inside)
    path = volume.path
    if inside:
        try:
            path = subpath.prepare(volume.path, inside, place.sub_path(volume.name, container.name, index))
        except (OSError, ValueError) as error:
            raise StartFailed(
                Reason.CONFIG,
                f'failed to prepare subPath for volumeMount "{wanted.name}" of container "{container.name}": {error}',
            ) from None
    return Mount(
        target,
        path,
        readonly=readonly,
        selinux_relabel=False,
        propagation=_PROPAGATION.get(wanted.mountPropagation or "None", Propagation.PRIVATE),
    )


def _sub_path(wanted: VolumeMount, env: Mapping[str, str]) -> str:
    if not wanted.subPathExpr:
        return wanted.subPath or ""
    missing: list[str] = []
    text = expansion.expand(wanted.subPathExpr, env, missing)
    if missing:
        raise StartFailed(Reason.CONFIG, f"missing value for {missing[0]!r} in subPathExpr {wanted.subPathExpr!r}")
    if os.path.isabs(text):
        raise StartFailed(Reason.CONFIG, f"subPath {text!r} must not be an absolute path")
    if ".." in text.split("/"):
        raise StartFailed(Reason.CONFIG, f"subPath {text!r} must not contain '..'")
    return text


def _make_last_words(path: Path) -> Path:
    """An empty file that any user of the container may write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    os.fchmod(descriptor, 0o666)
    os.close(descriptor)
    return path
