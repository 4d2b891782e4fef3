"""What is special about each resource when it is written. One file a family; `STRATEGIES` is read by registry/registry."""

from __future__ import annotations

from collections.abc import Callable

from kybern.api.resource import Resource
from kybern.apiserver.registry.strategy import Context, Strategy

STRATEGIES: dict[str, Callable[[Context, Resource], Strategy]] = {}
