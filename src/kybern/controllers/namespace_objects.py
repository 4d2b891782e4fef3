"""One object of a fixed name in every active namespace: what the default ServiceAccount and the root CA share.

Woken by namespaces and by the objects themselves. `wanted(namespace, found)` is pure: the object to write, or None
if `found` is right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from kybern.api.core_v1 import Namespace
from kybern.client import shapes
from kybern.client.informer import Informer
from kybern.controllers import runtime
from kybern.machinery.status import ApiError

T = TypeVar("T")
Wanted = Callable[[Namespace, T | None], T | None]


class NamespaceObjects(Generic[T]):
    """runtime.Controller; keys are names of namespaces."""

    def __init__(
        self, context: runtime.Context, name: str, objects: Informer[T], object_name: str, wanted: Wanted[T]
    ) -> None:
        self.name = name
        self._context = context
        self._namespaces = context.informers.of(Namespace)
        self._objects = objects
        self._object_name = object_name
        self._wanted = wanted
        self.loop = runtime.Loop(name, self.reconcile, context.clock)
        self.loops = (self.loop,)
        runtime.enqueue_on_change(self.loop, self._namespaces)
        objects.on_change(self._object_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _object_changed(self, old: T | None, new: T | None) -> None:
        meta = shapes.meta_of(new if new is not None else old)
        if meta.name == self._object_name:
            self.loop.queue.add(meta.namespace)

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        namespace = self._namespaces.by_key(key)
        if namespace is None or namespace.metadata.deletionTimestamp or namespace.status.phase == "Terminating":
            return None
        found = self._objects.get(key, self._object_name)
        obj: Any = self._wanted(namespace, found)
        if obj is None:
            return None
        try:
            stored = await (self._context.client.create(obj) if found is None else self._context.client.update(obj))
        except ApiError as error:
            # Made by somebody else, or the namespace started to go away meanwhile: the informers will tell.
            if error.is_already_exists or error.code in (403, 404):
                return None
            raise
        self._objects.observe(stored)
        return None
