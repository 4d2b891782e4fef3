"""Objects in a dict, with the API server's own rules: the `Reader` and `Writer` of apiserver/request for unit tests.

Keeps resource versions, uids and preconditions as the registry does; has no watch, no admission and no validation.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Sequence
from typing import Any

from kybern.api import codec
from kybern.machinery import scheme
from kybern.machinery.status import ApiError


class ObjectTable:
    """A Reader and a Writer. What is read is shared; what is written is copied."""

    def __init__(self, *objects: Any) -> None:
        self.revision = 0
        self.writes: list[tuple[str, str, str, str]] = []  # ("update", resource, namespace, name), oldest first
        self._tables: dict[str, dict[tuple[str, str], Any]] = {}
        self._versions: dict[str, int] = {}
        for obj in objects:
            self.put(obj)

    def get(self, resource: str, namespace: str, name: str) -> Any | None:
        return self._tables.get(resource, {}).get((namespace, name))

    def list(self, resource: str, namespace: str | None = None) -> list[Any]:
        table = self._tables.get(resource, {})
        return [o for (where, _), o in sorted(table.items()) if namespace is None or where == namespace]

    def having(self, resource: str, field: str, value: str, namespace: str | None = None) -> Sequence[Any]:
        found = self.list(resource, namespace)
        return [o for o in found if (functools.reduce(getattr, field.split("."), o) or "") == value]

    def version(self, resource: str) -> int:
        return self._versions.get(resource, 0)

    def changes(self, resource: str, since: int) -> Sequence[tuple[Any | None, Any | None]] | None:
        return None  # nothing is kept of what was

    async def create(self, resource: str, obj: Any) -> Any:
        meta = obj.metadata
        if self.get(resource, meta.namespace, meta.name) is not None:
            plural, _, group = resource.partition(".")
            raise ApiError.already_exists(group, plural, meta.name)
        self.writes.append(("create", resource, meta.namespace, meta.name))
        return self.put(obj)

    async def update(self, resource: str, obj: Any) -> Any:
        meta = obj.metadata
        plural, _, group = resource.partition(".")
        current = self.get(resource, meta.namespace, meta.name)
        if current is None:
            raise ApiError.not_found(group, plural, meta.name)
        if meta.resourceVersion and meta.resourceVersion != current.metadata.resourceVersion:
            raise ApiError.stale(group, plural, meta.name)
        self.writes.append(("update", resource, meta.namespace, meta.name))
        return self.put(obj)

    async def delete(self, resource: str, namespace: str, name: str) -> None:
        if self.get(resource, namespace, name) is None:
            plural, _, group = resource.partition(".")
            raise ApiError.not_found(group, plural, name)
        self.writes.append(("delete", resource, namespace, name))
        self.remove(resource, namespace, name)

    def put(self, obj: Any) -> Any:
        """Add or replace without any precondition; returns the stored object."""
        row = scheme.kind_of(obj.apiVersion, obj.kind)
        assert row is not None, f"{obj.kind} is no resource"
        resource = row.group_resource
        stored = codec.clone(obj)
        self.revision += 1
        stored.metadata.resourceVersion = str(self.revision)
        stored.metadata.uid = stored.metadata.uid or str(uuid.UUID(int=self.revision))
        self._tables.setdefault(resource, {})[(stored.metadata.namespace, stored.metadata.name)] = stored
        self._versions[resource] = self.revision
        return stored

    def remove(self, resource: str, namespace: str, name: str) -> None:
        del self._tables[resource][(namespace, name)]
        self.revision += 1
        self._versions[resource] = self.revision
