"""What the kubelet's server needs of the kubelet: its pods, and who may ask.

Implemented by the kubelet's core (PodSource) and by access.py (Access); containers are reached through cri/contract.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kybern.api.core_v1 import Pod


class PodSource(Protocol):
    """The pods of this node, with the newest status the kubelet knows (containerIDs above all). Read-only."""

    def list(self) -> Sequence[Pod]: ...

    def find(self, namespace: str, name: str) -> Pod | None: ...


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as authenticated."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request wants, in the terms of nodes/<subresource>."""

    verb: str
    subresources: tuple[str, ...]  # any one of them suffices


class Access(Protocol):
    """Delegated authentication and authorization."""

    async def authenticate_token(self, token: str) -> Caller | None: ...

    async def is_allowed(self, caller: Caller, ask: Ask) -> bool: ...
