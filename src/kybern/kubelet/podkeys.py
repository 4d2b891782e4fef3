"""How a pod is named where its name alone is not enough: logs, events, directories, messages."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import NewType

from kybern.api.core_v1 import Container, EphemeralContainer, Pod
from kybern.kubelet.cri import labels

PodUid = NewType("PodUid", str)
AnyContainer = Container | EphemeralContainer


class Role(Enum):
    """What a container is in its pod."""

    INIT = "init"
    SIDECAR = "sidecar"  # an init container with restartPolicy Always
    REGULAR = "regular"
    EPHEMERAL = "ephemeral"


def uid_of(pod: Pod) -> PodUid:
    """The uid the node works with. A mirror pod stands for a static pod, whose uid is the hash of its file."""
    return PodUid(pod.metadata.uid)


def key_of(pod: Pod) -> str:
    return f"{pod.metadata.namespace}/{pod.metadata.name}"


def format_pod(pod: Pod) -> str:
    """`name_namespace(uid)`, as messages name a pod."""
    return f"{pod.metadata.name}_{pod.metadata.namespace}({pod.metadata.uid})"


def is_mirror(pod: Pod) -> bool:
    """The API's picture of a static pod."""
    return labels.MIRROR in pod.metadata.annotations


def is_static(pod: Pod) -> bool:
    """From a file of this node, not from the API."""
    return pod.metadata.annotations.get(labels.SOURCE, "api") != "api"


def is_critical(pod: Pod) -> bool:
    """Static and system-critical pods are never turned away for lack of room."""
    return is_static(pod) or is_mirror(pod) or (pod.spec.priority or 0) >= 2_000_000_000


def role_of_init(container: Container) -> Role:
    return Role.SIDECAR if container.restartPolicy == "Always" else Role.INIT


def containers_of(pod: Pod) -> Iterator[tuple[Role, AnyContainer]]:
    """All containers, in the order they start."""
    for container in pod.spec.initContainers:
        yield role_of_init(container), container
    for container in pod.spec.containers:
        yield Role.REGULAR, container
    for ephemeral in pod.spec.ephemeralContainers:
        yield Role.EPHEMERAL, ephemeral


def find_container(pod: Pod, name: str) -> tuple[Role, AnyContainer] | None:
    return next(((role, c) for role, c in containers_of(pod) if c.name == name), None)


def field_path(pod: Pod, name: str) -> str:
    """Where in the pod a container is, as events name it: `spec.containers{web}`."""
    found = find_container(pod, name)
    where = {
        Role.INIT: "spec.initContainers",
        Role.SIDECAR: "spec.initContainers",
        Role.REGULAR: "spec.containers",
        Role.EPHEMERAL: "spec.ephemeralContainers",
    }
    return f"{where[found[0]] if found else 'spec.containers'}{{{name}}}"


def grace_of(pod: Pod) -> int:
    """Seconds the pod has to end: what its deletion says, else its spec."""
    if pod.metadata.deletionGracePeriodSeconds is not None:
        return pod.metadata.deletionGracePeriodSeconds
    if pod.spec.terminationGracePeriodSeconds is not None:
        return pod.spec.terminationGracePeriodSeconds
    return 30
