"""What the built-in plugins share: on which writes they are asked, and doing nothing where they do nothing."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import ClassVar

from kybern.apiserver.admission import Attributes
from kybern.machinery.status import ApiError


class Rule:
    """A `Plugin` for some operations on some resources. Overridden: `admit`, `validate` or both."""

    name: str = ""
    operations: ClassVar[frozenset[str]] = frozenset({"CREATE", "UPDATE"})
    # "pods", "pods/ephemeralcontainers", "deployments.apps"; None: all
    targets: ClassVar[frozenset[str] | None] = None

    def handles(self, a: Attributes) -> bool:
        if a.operation not in self.operations:
            return False
        target = f"{a.group_resource}/{a.subresource}" if a.subresource else a.group_resource
        return self.targets is None or target in self.targets

    def admit(self, a: Attributes) -> Awaitable[None] | None:
        return None

    def validate(self, a: Attributes) -> Awaitable[None] | None:
        return None


def forbidden(a: Attributes, why: str) -> ApiError:
    """The refusal of a plugin: `pods "x" is forbidden: <why>`."""
    return ApiError.forbidden(a.resource.group, a.resource.plural, a.name or _generated(a), why)


def _generated(a: Attributes) -> str:
    """An object whose name is still to be generated is called by the beginning of it, as upstream does."""
    meta = getattr(a.object, "metadata", None)
    return getattr(meta, "generateName", "") if meta is not None else ""
