"""APIServices as rows: which group-versions another server serves, where it is, and how groups are ordered. Pure.

Read by all of this folder. Source: "Set up an Extension API Server", and the reference of APIService v1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kybern.api.apiregistration_v1 import APIService, APIServiceCondition
from kybern.apiserver.discovery.documents import version_priority

RESOURCE = "apiservices.apiregistration.k8s.io"
GROUP = "apiregistration.k8s.io"
AVAILABLE = "Available"
_DEFAULT_PORT = 443

GroupVersion = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Remote:
    """One group-version that the Service of another server answers."""

    name: str  # of the APIService
    group: str
    version: str
    namespace: str
    service: str
    port: int
    ca_bundle: bytes
    is_insecure: bool
    is_available: bool

    @property
    def group_version(self) -> GroupVersion:
        return self.group, self.version

    @property
    def path(self) -> str:
        return f"/apis/{self.group}/{self.version}"

    @property
    def server_name(self) -> str:
        """What its certificate must be for."""
        return f"{self.service}.{self.namespace}.svc"


def available(obj: APIService) -> APIServiceCondition | None:
    return next((c for c in obj.status.conditions if c.type == AVAILABLE), None)


def remote_of(obj: APIService) -> Remote | None:
    """None for a group-version that is served here."""
    spec = obj.spec
    if spec.service is None:
        return None
    condition = available(obj)
    return Remote(
        name=obj.metadata.name,
        group=spec.group or "",
        version=spec.version or "",
        namespace=spec.service.namespace or "",
        service=spec.service.name or "",
        port=spec.service.port or _DEFAULT_PORT,
        ca_bundle=bytes(spec.caBundle or b""),
        is_insecure=bool(spec.insecureSkipTLSVerify),
        is_available=condition is not None and condition.status == "True",
    )


def order(objects: Iterable[APIService]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Groups and their versions as discovery tells them: by priority, then by name and by version."""
    groups: dict[str, list[APIService]] = {}
    for obj in objects:
        groups.setdefault(obj.spec.group or "", []).append(obj)
    # The group of APIServices themselves is served by no APIService, and stands before all others.
    ranked = sorted(groups.items(), key=lambda item: (-max(o.spec.groupPriorityMinimum for o in item[1]), item[0]))
    found: list[tuple[str, tuple[str, ...]]] = [(GROUP, ("v1",))] if GROUP not in groups else []
    for group, members in ranked:
        members.sort(key=lambda o: (-o.spec.versionPriority, version_priority(o.spec.version or "")))
        found.append((group, tuple(o.spec.version or "" for o in members)))
    return tuple(found)
