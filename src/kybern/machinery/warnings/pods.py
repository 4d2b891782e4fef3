"""Warnings about pods and about templates of them. Pure; called by kinds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from kybern.api import scalars

# Label -> (since, what to use instead).
OLD_LABELS = {
    "beta.kubernetes.io/arch": ("v1.14", "kubernetes.io/arch"),
    "beta.kubernetes.io/os": ("v1.14", "kubernetes.io/os"),
    "failure-domain.beta.kubernetes.io/region": ("v1.17", "topology.kubernetes.io/region"),
    "failure-domain.beta.kubernetes.io/zone": ("v1.17", "topology.kubernetes.io/zone"),
    "beta.kubernetes.io/instance-type": ("v1.17", "node.kubernetes.io/instance-type"),
}
# Kinds of volumes that do nothing any more: field -> (name in the message, deprecated in, non-functional in).
DEAD_VOLUMES = {
    "photonPersistentDisk": ("photonPersistentDisk", "v1.11", "v1.16"),
    "scaleIO": ("scaleIO", "v1.16", "v1.22"),
    "flocker": ("flocker", "v1.22", "v1.25"),
    "storageos": ("storageOS", "v1.22", "v1.25"),
    "quobyte": ("quobyte", "v1.22", "v1.25"),
    "glusterfs": ("glusterfs", "v1.25", "v1.26"),
    "rbd": ("rbd", "v1.28", "v1.31"),
    "cephfs": ("cephfs", "v1.28", "v1.31"),
}
_GIT_REPO = "deprecated in v1.11, and disabled by default in v1.33+"
_ANNOTATIONS = {
    "scheduler.alpha.kubernetes.io/critical-pod": ("v1.16", "priorityClassName"),
    "security.alpha.kubernetes.io/sysctls": ("v1.11", "sysctls"),
    "security.alpha.kubernetes.io/unsafe-sysctls": ("v1.11", "sysctls"),
    "seccomp.security.alpha.kubernetes.io/pod": ("v1.27", "seccompProfile"),
}
_SECCOMP = "container.seccomp.security.alpha.kubernetes.io/"
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
_IN_BYTES = ("memory", "ephemeral-storage", "storage")


def of_pod(pod: Any) -> list[str]:
    return [*_name(pod.metadata.name, "the Pod's hostname"), *_of(pod, "")]


def of_template(template: Any, path: str) -> list[str]:
    """`path`: of the template, like `spec.template`."""
    return list(_of(template, f"{path}.")) if template is not None else []


def _name(name: str, used_in: str) -> Iterator[str]:
    why = []
    if len(name) > 63:
        why.append("must be no more than 63 characters")
    if "." in name:
        why.append("must not contain dots")
    if why:
        yield (
            f"metadata.name: this is used in {used_in}, which can result in surprising behavior; "
            f"a DNS label is recommended: [{' '.join(why)}]"
        )


def of_owner_name(name: str) -> list[str]:
    """Of a kind whose pods are named after it."""
    return list(_name(name, "Pod names and hostnames"))


def of_label(key: str, path: str, verb: str = "is deprecated") -> Iterator[str]:
    """A label that a field names, at `path`."""
    old = OLD_LABELS.get(key)
    if old is not None:
        said = f"{key} {verb}" if verb == "is deprecated" else verb
        yield f'{path}: {said} since {old[0]}; use "{old[1]}" instead'


def of_node_selector_term(term: Any, path: str) -> Iterator[str]:
    for number, expression in enumerate(term.matchExpressions):
        yield from of_label(expression.key, f"{path}.matchExpressions[{number}].key")


def _order(name: str) -> tuple[int, str]:
    return (_IN_BYTES.index(name) if name in _IN_BYTES else len(_IN_BYTES)), name


def of_amounts(amounts: Any, path: str) -> Iterator[str]:
    """Quantities of bytes are whole numbers."""
    broken = [
        name
        for name, amount in amounts.items()
        if name.endswith(_IN_BYTES) and scalars.parse_quantity(amount)[0] % 10**9 and _is_bytes(name)
    ]
    for name in sorted(broken, key=_order):
        yield f'{path}[{name}]: fractional byte value "{amounts[name]}" is invalid, must be an integer'


def _is_bytes(name: str) -> bool:
    return name in _IN_BYTES or name.endswith((".memory", ".ephemeral-storage", ".storage"))


def _of(obj: Any, prefix: str) -> Iterator[str]:
    spec = obj.spec
    if spec is None:
        return
    path = f"{prefix}spec"
    # Every pod comes by here: what it has not is not looked into.
    if spec.nodeSelector or spec.affinity is not None or spec.topologySpreadConstraints:
        yield from _placement(spec, path)
    if obj.metadata is not None and obj.metadata.annotations:
        yield from _annotations(obj.metadata, f"{prefix}metadata.annotations")
    if spec.imagePullSecrets or spec.hostAliases:
        yield from _lists(spec, path)
    for number, volume in enumerate(spec.volumes):
        yield from _volume(volume, f"{path}.volumes[{number}]")
    if spec.overhead:
        yield from of_amounts(spec.overhead, f"{path}.overhead")
    containers = [
        (container, f"{path}.{field}[{number}]")
        for field in ("initContainers", "containers", "ephemeralContainers")
        for number, container in enumerate(getattr(spec, field))
    ]
    for container, where in containers:
        if container.resources is not None or len(container.env) > 1:
            yield from _container(container, where)
    if any(container.ports for container, _ in containers):
        yield from _ports(containers)


def _placement(spec: Any, path: str) -> Iterator[str]:
    for key in sorted(spec.nodeSelector):
        yield from of_label(key, f"{path}.nodeSelector[{key}]", "deprecated")
    affinity = spec.affinity
    node = affinity.nodeAffinity if affinity is not None else None
    if node is not None:
        where = f"{path}.affinity.nodeAffinity"
        required = node.requiredDuringSchedulingIgnoredDuringExecution
        for number, term in enumerate(required.nodeSelectorTerms if required is not None else ()):
            at = f"{where}.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[{number}]"
            yield from of_node_selector_term(term, at)
        for number, wish in enumerate(node.preferredDuringSchedulingIgnoredDuringExecution):
            at = f"{where}.preferredDuringSchedulingIgnoredDuringExecution[{number}].preference"
            yield from of_node_selector_term(wish.preference, at)
    for number, constraint in enumerate(spec.topologySpreadConstraints):
        where = f"{path}.topologySpreadConstraints[{number}]"
        yield from of_label(constraint.topologyKey, f"{where}.topologyKey")
        if constraint.labelSelector is None:
            yield f"{where}.labelSelector: a null labelSelector results in matching no pod"
    for field in ("podAffinity", "podAntiAffinity"):
        each = getattr(affinity, field) if affinity is not None else None
        if each is not None:
            yield from _pod_affinity(each, f"{path}.affinity.{field}")


def _pod_affinity(affinity: Any, path: str) -> Iterator[str]:
    said = "labelSelector: a null labelSelector results in matching no pod"
    for number, term in enumerate(affinity.requiredDuringSchedulingIgnoredDuringExecution):
        if term.labelSelector is None:
            yield f"{path}.requiredDuringSchedulingIgnoredDuringExecution[{number}].{said}"
    for number, wish in enumerate(affinity.preferredDuringSchedulingIgnoredDuringExecution):
        if wish.podAffinityTerm.labelSelector is None:
            at = f"{path}.preferredDuringSchedulingIgnoredDuringExecution[{number}].podAffinityTerm"
            yield f"{at}.{said}"


def _annotations(metadata: Any, path: str) -> Iterator[str]:
    keys = metadata.annotations if metadata is not None else ()
    for key in sorted(keys, key=lambda k: (k.startswith((_SECCOMP, _APPARMOR)), k)):
        dead = ("v1.27", "seccompProfile") if key.startswith(_SECCOMP) else _ANNOTATIONS.get(key)
        if dead is not None:
            yield f'{path}[{key}]: non-functional in {dead[0]}+; use the "{dead[1]}" field instead'
        elif key.startswith(_APPARMOR):
            yield f'{path}[{key}]: deprecated since v1.30; use the "appArmorProfile" field instead'


def _lists(spec: Any, path: str) -> Iterator[str]:
    """Entries that are merged by name and must not repeat."""
    seen: set[str] = set()
    for number, secret in enumerate(spec.imagePullSecrets):
        if secret.name and secret.name in seen:
            yield f'{path}.imagePullSecrets[{number}].name: duplicate name "{secret.name}"'
        seen.add(secret.name or "")
    for number, secret in enumerate(spec.imagePullSecrets):
        if not secret.name:
            yield f'{path}.imagePullSecrets[{number}].name: invalid empty name ""'
    addresses: set[str] = set()
    for number, alias in enumerate(spec.hostAliases):
        if alias.ip in addresses:
            yield f'{path}.hostAliases[{number}].ip: duplicate ip "{alias.ip}"'
        addresses.add(alias.ip)


def _volume(volume: Any, path: str) -> Iterator[str]:
    yield from of_dead_volume(volume, path)
    if volume.gitRepo is not None:
        yield f"{path}.gitRepo: {_GIT_REPO}"
    template = volume.ephemeral.volumeClaimTemplate if volume.ephemeral is not None else None
    if template is not None:
        where = f"{path}.ephemeral.volumeClaimTemplate.spec.resources"
        yield from of_resources(template.spec.resources, where)


def of_dead_volume(source: Any, path: str, spared: tuple[str, ...] = ()) -> Iterator[str]:
    for field, (name, deprecated, dead) in DEAD_VOLUMES.items():
        if field not in spared and getattr(source, field, None) is not None:
            yield f"{path}.{name}: deprecated in {deprecated}, non-functional in {dead}+"


def of_resources(resources: Any, path: str) -> Iterator[str]:
    if resources is not None and resources.limits:
        yield from of_amounts(resources.limits, f"{path}.limits")
    if resources is not None and resources.requests:
        yield from of_amounts(resources.requests, f"{path}.requests")


def _container(container: Any, path: str) -> Iterator[str]:
    yield from of_resources(container.resources, f"{path}.resources")
    if len(container.env) < 2:
        return
    names: set[str] = set()
    for number, variable in enumerate(container.env):
        if variable.name in names and f"$({variable.name})" not in (variable.value or ""):
            said = f'hides previous definition of "{variable.name}", which may be dropped when using apply'
            yield f"{path}.env[{number}]: {said}"
        names.add(variable.name)


@dataclass(frozen=True, slots=True)
class _Port:
    """One port of a container, and where it is written."""

    number: int
    protocol: str
    host_port: int
    host_ip: str
    name: str
    container: str  # path
    path: str

    def equals(self, other: _Port) -> bool:
        return (self.host_port, self.host_ip) == (other.host_port, other.host_ip)

    def overlaps(self, other: _Port) -> bool:
        """What one leaves open, the other may take."""
        same_port = self.host_port == other.host_port or not (self.host_port and other.host_port)
        return same_port and (self.host_ip == other.host_ip or not (self.host_ip and other.host_ip))


def _ports(containers: Iterable[tuple[Any, str]]) -> Iterator[str]:
    seen: dict[tuple[int, str], list[_Port]] = {}
    named: dict[str, _Port] = {}
    for container, path in containers:
        for number, each in enumerate(container.ports):
            protocol = each.protocol or "TCP"
            where = f"{path}.ports[{number}]"
            port = _Port(
                each.containerPort, protocol, each.hostPort or 0, each.hostIP or "", each.name or "", path, where
            )
            if port.host_ip and not port.host_port:
                shown = f"Name:{port.name} HostPort:0 ContainerPort:{port.number} Protocol:{protocol}"
                yield f"{where}: hostIP set without hostPort: {{{shown} HostIP:{port.host_ip}}}"
            others = seen.setdefault((port.number, protocol), [])
            yield from _clash(port, others)
            others.append(port)
            if port.name:
                first = named.setdefault(port.name, port)
                if first.container != path:
                    yield (
                        f'{where}: duplicate port name "{port.name}" with {first.path}, services and probes that '
                        f"select ports by name will use {first.path}"
                    )


def _clash(port: _Port, others: list[_Port]) -> Iterator[str]:
    for other in others:
        if port.equals(other):
            yield f"{port.path}: duplicate port definition with {other.path}"
            return
        if port.overlaps(other):
            yield f"{port.path}: overlapping port definition with {other.path}"
            return
