"""A custom resource as one version shows it: the Served of registry, by codec and schema instead of built-in rules."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from kybern.apiserver.custom_resources.version import Version
from kybern.apiserver.registry.registry import Served
from kybern.apiserver.table.column import Printer


@dataclass(frozen=True, slots=True)
class CustomServed(Served):
    """Objects pass through the store of their own version; only what is stored is of another."""

    version: Version

    def __post_init__(self) -> None:
        is_stored = self.resource.api_version == self.version.stored_as and self.codec.converter is None
        object.__setattr__(self, "is_stored_version", is_stored)

    @property
    def warm(self) -> Callable[[Iterable[bytes]], Awaitable[None]] | None:
        return self.codec.converter.warm if self.codec.converter is not None else None

    @property
    def printer(self) -> Printer | None:
        return self.version.printer

    @property
    def warning(self) -> str:
        return self.version.deprecation

    def to_stored(self, obj: Any) -> Any:
        return obj

    def check(self, stored: Any, old: Any | None) -> None:
        """The strategy of the version has its say when it is written."""

    def from_stored(self, data: bytes) -> Any:
        return self.codec.decode(self.bytes_from_stored(data))

    def bytes_from_stored(self, data: bytes) -> bytes:
        return data if self.is_stored_version else self.codec.shown(data)
