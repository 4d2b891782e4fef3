"""Admission: what may still change or refuse a write after authorization. One plugin a file.

Called by handlers between decoding and registry. Mutating plugins run first, in order, then validating ones.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from kybern.api.resource import Resource
from kybern.apiserver.request import User

Operation = Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]


@dataclass(slots=True)
class Attributes:
    """One write under admission. `object` may be changed in place by mutating plugins."""

    operation: Operation
    resource: Resource
    subresource: str
    namespace: str
    name: str
    # None on DELETE; a Struct, or a CustomObject; options of CONNECT are a dict. A plugin may put another one of the
    # same kind in its place, complete with defaults.
    object: Any | None
    old: Any | None  # None on CREATE
    user: User
    dry_run: bool = False
    options: Any = None
    warnings: list[str] = field(default_factory=list)
    # The version that the client named, where it is not the stored one.
    requested: Resource | None = None
    is_collection: bool = False  # one of many, of a deletecollection
    # What changed the object from outside (webhooks, policies) asks for another round of all that may change it.
    wants_round: bool = False
    round: int = 0  # 1: the second and last one
    # What webhooks that want to be asked again left behind in the first round, by (configuration, name).
    left_behind: dict[tuple[str, str], bytes] = field(default_factory=dict)

    @property
    def group_resource(self) -> str:
        return self.resource.group_resource

    @property
    def as_requested(self) -> Resource:
        """The resource in the version that the client named."""
        return self.requested or self.resource


class Plugin(Protocol):
    """`admit` may change `a.object`; `validate` may only refuse. Both raise ApiError; both may be async."""

    name: str

    def handles(self, a: Attributes) -> bool:
        """Whether to be asked; by operation, resource and subresource alone: the answer is remembered for them."""
        ...

    def admit(self, a: Attributes) -> Awaitable[None] | None: ...

    def validate(self, a: Attributes) -> Awaitable[None] | None: ...
