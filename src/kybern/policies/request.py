"""What a policy may know of a write besides its object, and how it speaks to whom it concerns without refusing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class User:
    """Who writes."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """The write. All of it is the policy's own copy."""

    operation: str  # CREATE, UPDATE, DELETE, CONNECT
    resource: str  # "pods", "deployments.apps"
    subresource: str  # "", "status", "scale", "exec", ...
    namespace: str  # "" for what is in none
    name: str  # "" while it is still to be generated
    user: User
    old: Any = None  # the object before an UPDATE or DELETE, of the same type as the first argument
    dry_run: bool = False
    namespace_labels: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    annotations: dict[str, str] = field(default_factory=dict)

    def warn(self, text: str) -> None:
        """Tell the client (kubectl prints it) and let the write pass."""
        self.warnings.append(text)

    def annotate(self, key: str, value: str) -> None:
        """Leave a note in the audit log, under `policy.kybern.io/<function>.<key>`."""
        self.annotations[key] = value
