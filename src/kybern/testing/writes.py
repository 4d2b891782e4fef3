"""Strategies with a world around them: writes take the steps of registry/resource_store, without a store."""

from __future__ import annotations

import asyncio
import datetime
import functools
import random
from collections.abc import Callable, Sequence
from typing import Any

from kybern.api import codec
from kybern.apiserver.registry import metadata
from kybern.apiserver.registry.strategies import STRATEGIES
from kybern.apiserver.registry.strategy import Context, Strategy
from kybern.apiserver.request import User
from kybern.machinery import scheme
from kybern.machinery.status import ApiError, FieldError
from kybern.testing.clock import FakeClock

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


class World:
    """Keeps what was written, as a store would; is request.Reader and the way to write."""

    def __init__(self, *, service_cidr: str = "10.96.0.0/12", node_ports: tuple[int, int] = (30000, 32767)) -> None:
        self.clock = FakeClock(START)
        self.rng = random.Random(7)
        self.objects: dict[tuple[str, str, str], Any] = {}
        self.revision = 0
        self._context = Context(self, self, self.clock, self.rng, service_cidr, node_ports)
        self._strategies: dict[str, Strategy] = {}

    def advance(self, seconds: float) -> None:
        asyncio.run(self.clock.advance(seconds))

    # -- request.Reader ------------------------------------------------------------------------------------------

    def get(self, resource: str, namespace: str, name: str) -> Any | None:
        return self.objects.get((resource, namespace, name))

    def list(self, resource: str, namespace: str | None = None) -> list[Any]:
        return [o for (r, n, _), o in self.objects.items() if r == resource and namespace in (None, n)]

    def having(self, resource: str, field: str, value: str, namespace: str | None = None) -> Sequence[Any]:
        found = self.list(resource, namespace)
        return [o for o in found if (functools.reduce(getattr, field.split("."), o) or "") == value]

    def version(self, resource: str) -> int:
        return self.revision

    def changes(self, resource: str, since: int) -> Sequence[tuple[Any | None, Any | None]] | None:
        return None  # nothing is kept of what was

    # -- request.Writer ------------------------------------------------------------------------------------------

    async def create(self, resource: str, obj: Any) -> Any:
        key = (resource, obj.metadata.namespace, obj.metadata.name)
        if key in self.objects:
            group = resource.partition(".")[2]
            raise ApiError.already_exists(group, resource.partition(".")[0], obj.metadata.name)
        metadata.fill_on_create(obj.metadata, self.clock.now(), self.rng)
        self.objects[key] = obj
        self.revision += 1
        return obj

    async def update(self, resource: str, obj: Any) -> Any:
        raise NotImplementedError

    async def delete(self, resource: str, namespace: str, name: str) -> None:
        del self.objects[(resource, namespace, name)]
        self.revision += 1

    # -- writes, step by step as registry/resource_store does them -----------------------------------------------

    def strategy(self, obj: Any) -> Strategy:
        kind: Any = type(obj)
        resource = scheme.resource_of(kind)
        key = resource.group_resource
        if key not in self._strategies:
            self._strategies[key] = STRATEGIES.get(key, Strategy)(self._context, resource)
        return self._strategies[key]

    def post(self, obj: Any, user: User | None = None, *, keep: bool = True) -> Any:
        """Create; raises Refused or ApiError. `keep` False: the write fails after allocation."""
        strategy = self.strategy(obj)
        metadata.fill_on_create(obj.metadata, self.clock.now(), self.rng)
        strategy.apply_defaults(obj)
        strategy.prepare_create(obj, user or User("somebody"))
        refuse(strategy.validate_create(obj))
        give_back = asyncio.run(strategy.allocate(obj, None, dry_run=False))
        return self._finish(obj, give_back, keep)

    def put(self, obj: Any, change: Callable[[Any], None], *, subresource: str = "", keep: bool = True) -> Any:
        """Update a copy of `obj`."""
        strategy = self.strategy(obj)
        key = (strategy.resource.group_resource, obj.metadata.namespace, obj.metadata.name)
        old = self.objects[key]
        new = codec.clone(old)
        change(new)
        metadata.keep_on_update(new.metadata, old.metadata)
        strategy.apply_defaults(new)
        give_back = None
        if subresource == "status":
            strategy.prepare_status_update(new, old)
            refuse(strategy.validate_status_update(new, old))
        elif subresource:
            getattr(strategy, f"prepare_{subresource}_update")(new, old)
            refuse(getattr(strategy, f"validate_{subresource}_update", lambda *_: [])(new, old))
        else:
            strategy.prepare_update(new, old)
            refuse(strategy.validate_update(new, old))
            give_back = asyncio.run(strategy.allocate(new, old, dry_run=False))
        return self._finish(new, give_back, keep)

    def remove(self, obj: Any) -> None:
        strategy = self.strategy(obj)
        del self.objects[(strategy.resource.group_resource, obj.metadata.namespace, obj.metadata.name)]
        self.revision += 1
        strategy.after_delete(obj)

    def _finish(self, obj: Any, give_back: Callable[[], None] | None, keep: bool) -> Any:
        if not keep:
            if give_back is not None:
                give_back()
            return obj
        resource = self.strategy(obj).resource.group_resource
        self.objects[(resource, obj.metadata.namespace, obj.metadata.name)] = obj
        self.revision += 1
        return obj


class Refused(Exception):
    """Validation found faults."""


def refuse(errors: list[FieldError]) -> None:
    if errors:
        raise Refused("; ".join(str(e) for e in errors))
