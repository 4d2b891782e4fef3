"""What every plugin asks of a pod, worked out once a version of it.

Made by feed of what the informer tells; read by snapshot, queue, cycle and plugins.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from kybern.api import codec, core_v1
from kybern.scheduler import requests
from kybern.scheduler.objects import PodView

Wildcard = "0.0.0.0"  # a host port without an address is on all of them


class HostPort(NamedTuple):
    ip: str
    protocol: str
    port: int

    def conflicts(self, other: HostPort) -> bool:
        """Same port and protocol, and an address in common."""
        if (self.protocol, self.port) != (other.protocol, other.port):
            return False
        return self.ip == other.ip or Wildcard in (self.ip, other.ip)


class PodInfo:
    """A pod, with what plugins ask of it. Not changed once made: a new version of the pod is a new PodInfo."""

    def __init__(self, pod: PodView) -> None:
        meta, spec = pod.metadata, pod.spec
        self.pod = pod
        self.uid = meta.uid
        self.namespace = meta.namespace
        self.name = meta.name
        self.key = f"{meta.namespace}/{meta.name}"
        self.labels = meta.labels
        self.priority = spec.priority or 0
        self.node_name = spec.nodeName or ""

    @property
    def nominated(self) -> str:
        return self.pod.status.nominatedNodeName or ""

    @property
    def is_terminating(self) -> bool:
        return self.pod.metadata.deletionTimestamp is not None

    @functools.cached_property
    def requests(self) -> dict[str, int]:
        """Resource -> amount: milli-cores for cpu, whole units for all else. Zero amounts are left out."""
        return requests.of_pod(self.pod)

    @functools.cached_property
    def nonzero(self) -> tuple[int, int]:
        """(cpu, memory) as scoring sees them: what asks for nothing still uses something."""
        return requests.nonzero_of_pod(self.pod)

    @functools.cached_property
    def host_ports(self) -> tuple[HostPort, ...]:
        spec = self.pod.spec
        sidecars = [c for c in spec.initContainers if c.restartPolicy == "Always"]
        found = (p for c in (*spec.containers, *sidecars) for p in c.ports if p.hostPort)
        return tuple(dict.fromkeys(HostPort(p.hostIP or Wildcard, p.protocol or "TCP", p.hostPort or 0) for p in found))

    @functools.cached_property
    def claims(self) -> tuple[tuple[str, bool], ...]:
        """(name of the claim, whether it is the pod's own ephemeral one)."""
        found = []
        for volume in self.pod.spec.volumes:
            if volume.persistentVolumeClaim is not None:
                found.append((volume.persistentVolumeClaim.claimName, False))
            elif volume.ephemeral is not None:
                found.append((f"{self.name}-{volume.name}", True))
        return tuple(found)

    @functools.cached_property
    def required_nodes(self) -> core_v1.NodeSelector | None:
        affinity = self.pod.spec.affinity
        node = affinity.nodeAffinity if affinity else None
        return node.requiredDuringSchedulingIgnoredDuringExecution if node else None

    @functools.cached_property
    def shape(self) -> bytes:
        """Equal for pods that any rule about nodes alone treats alike."""
        spec = self.pod.spec
        affinity = spec.affinity.nodeAffinity if spec.affinity else None
        return codec.encode([spec.nodeSelector, affinity, spec.tolerations])

    @functools.cached_property
    def memo(self) -> dict[str, Any]:
        """Where plugins keep what they compiled of this pod."""
        return {}

    def reference(self) -> core_v1.ObjectReference:
        meta = self.pod.metadata
        return core_v1.ObjectReference(
            kind="Pod",
            apiVersion="v1",
            namespace=meta.namespace,
            name=meta.name,
            uid=meta.uid,
            resourceVersion=meta.resourceVersion,
        )


def is_finished(pod: PodView) -> bool:
    """Uses nothing any more."""
    return pod.status.phase in ("Succeeded", "Failed")
