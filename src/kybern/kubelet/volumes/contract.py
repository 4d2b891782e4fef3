"""The nouns of volumes: what a kind of volume gets, and what it hands to the containers' mounts.

Each kind is one file with a `set_up` coroutine that is idempotent: called again it brings the volume up to date.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from kybern.api.certificates_v1beta1 import ClusterTrustBundle
from kybern.api.core_v1 import ConfigMap, Pod, Secret, Volume
from kybern.kubelet.failures import VolumeFailed


@dataclass(frozen=True, slots=True)
class HostVolume:
    """A volume that is ready on the node."""

    name: str
    path: str
    readonly: bool = False  # whatever the mount says
    device: str = ""  # a raw block volume instead of a path
    image: str = ""  # an image volume: the runtime mounts it
    groups: tuple[int, ...] = ()  # supplemental groups that may use it


@dataclass(frozen=True, slots=True)
class File:
    """One file of a volume that the kubelet writes."""

    data: bytes
    mode: int
    owner: int | None = None


class Tokens(Protocol):
    """Service account tokens of pods."""

    async def token(self, pod: Pod, audience: str, lifetime: int) -> str: ...


@dataclass(frozen=True, slots=True)
class NodeView:
    """What volumes may ask of the node."""

    config_map: Callable[[str, str], ConfigMap | None]
    secret: Callable[[str, str], Secret | None]
    tokens: Tokens
    node_name: str
    node_ips: tuple[str, ...]
    allocatable: Mapping[str, str] = field(default_factory=dict)
    trust_bundles: Callable[[str, str], list[ClusterTrustBundle]] = lambda name, signer: []  # name, or signer


@dataclass(frozen=True, slots=True)
class Request:
    """One volume of one pod, to be made ready."""

    pod: Pod
    volume: Volume
    root: Path  # of the pod: <kubelet root>/pods/<uid>
    node: NodeView
    pod_ips: tuple[str, ...] = ()

    def directory(self, plugin: str) -> Path:
        """Where volumes of a kind live; `kubernetes.io/empty-dir` is spelled `kubernetes.io~empty-dir`."""
        return self.root / "volumes" / plugin.replace("/", "~") / self.volume.name

    @property
    def fs_group(self) -> int | None:
        context = self.pod.spec.securityContext
        return context.fsGroup if context else None

    def failed(self, message: str) -> VolumeFailed:
        return VolumeFailed(self.volume.name, message)
