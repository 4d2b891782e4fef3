"""All informers of a process: one a kind and selection, however many ask for it.

Built by process/, handed to every controller; `run` owns the reflectors' tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator
from typing import Any, TypeVar, cast, overload

from kybern.api.resource import Resource
from kybern.client import shapes
from kybern.client.informer.informer import Informer
from kybern.client.informer.reflector import Reflector
from kybern.client.rest import RestClient
from kybern.client.shapes import Shape
from kybern.machinery.clock import Clock

T = TypeVar("T")
Selection = tuple[Resource, str, str, str, str]


class Informers:
    """Hands out informers and keeps them current."""

    def __init__(
        self, client: RestClient, clock: Clock, rng: random.Random | None = None, *, check_mutations: bool = False
    ) -> None:
        self._client = client
        self._clock = clock
        self._rng = rng or random.Random()
        self._check_mutations = check_mutations
        self._informers: dict[Selection, Informer[Any]] = {}
        self._reflectors: dict[Selection, Reflector[Any]] = {}
        self._running: dict[Selection, asyncio.Task[None]] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._asked: list[set[Informer[Any]]] = []

    @overload
    def of(
        self, kind: Resource, *, namespace: str = "", field_selector: str = "", label_selector: str = ""
    ) -> Informer[dict[str, Any]]: ...
    @overload
    def of(
        self, kind: type[T] | Shape[T], *, namespace: str = "", field_selector: str = "", label_selector: str = ""
    ) -> Informer[T]: ...
    def of(
        self, kind: Any, *, namespace: str = "", field_selector: str = "", label_selector: str = ""
    ) -> Informer[Any]:
        """The informer of a kind; made, and started if `run` is on, when first asked for."""
        shape = shapes.of(kind)
        form = "" if isinstance(kind, type) else shape.accept
        key = (shape.resource, namespace, label_selector, field_selector, form)
        if key not in self._informers:
            informer = Informer(shape, check_mutations=self._check_mutations)
            self._informers[key] = informer
            self._reflectors[key] = Reflector(
                self._client,
                informer,
                self._clock,
                self._rng,
                namespace=namespace,
                label_selector=label_selector,
                field_selector=field_selector,
            )
            self._start(key)
        for asked in self._asked:
            asked.add(self._informers[key])
        return self._informers[key]

    @contextlib.contextmanager
    def noting(self) -> Iterator[set[Informer[Any]]]:
        """Which informers are asked for meanwhile: what a component has to wait for, and no more."""
        asked: set[Informer[Any]] = set()
        self._asked.append(asked)
        try:
            yield asked
        finally:
            self._asked.remove(asked)

    def find(self, kind: type[T]) -> Informer[T] | None:
        """The informer of all objects of a typed kind, if anyone asked for it."""
        return cast("Informer[T] | None", self._informers.get((shapes.of(kind).resource, "", "", "", "")))

    def find_for(self, resource: Resource) -> Informer[Any] | None:
        """`find` by resource row."""
        return self._informers.get((resource, "", "", "", ""))

    def every_of(self, resource: Resource) -> list[Informer[Any]]:
        """All informers of a resource, whatever they select."""
        return [informer for key, informer in self._informers.items() if key[0] == resource]

    def stop(self, informer: Informer[Any]) -> None:
        """Forget an informer whose resource is no longer served."""
        for key, known in list(self._informers.items()):
            if known is informer:
                del self._informers[key], self._reflectors[key]
                if task := self._running.pop(key, None):
                    task.cancel()

    async def wait_synced(self) -> None:
        """Until every informer asked for so far holds its first list."""
        for informer in list(self._informers.values()):
            await informer.wait_synced()

    @property
    def has_synced(self) -> bool:
        return all(informer.has_synced for informer in self._informers.values())

    def check_mutations(self) -> None:
        for informer in self._informers.values():
            informer.check_mutations()

    async def run(self) -> None:
        """Keep all informers current until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                for key in list(self._reflectors):
                    self._start(key)
                await asyncio.Event().wait()
            finally:
                self._tasks = None
                self._running.clear()

    def _start(self, key: Selection) -> None:
        if self._tasks is not None:
            reflector = self._reflectors[key]
            self._running[key] = self._tasks.create_task(reflector.run(), name=f"reflector:{key[0].group_resource}")
