"""Controllers in a test: real ones, on a FakeApi and a FakeKubelet, under virtual time.

`run(["deployment-controller", ...], scenario)` gives the scenario a `Plane` and runs until it returns; informers'
objects are checked for mutations at the end.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from kybern.api.core_v1 import Namespace, NamespaceSpec, NamespaceStatus
from kybern.api.meta_v1 import ObjectMeta
from kybern.api.resource import Resource
from kybern.client.informer import Informers
from kybern.client.rest import RestClient
from kybern.controllers import registry
from kybern.controllers.runtime import Context, Controller
from kybern.controllers.settings import Settings
from kybern.machinery.clock import Clock
from kybern.testing import clock as virtual
from kybern.testing.fake_api import FakeApi
from kybern.testing.fake_kubelet import FakeKubelet, Habits

T = TypeVar("T")
PATIENCE = 600.0  # virtual seconds


@dataclass(slots=True)
class Plane:
    """What a scenario has in its hands."""

    api: FakeApi
    client: RestClient
    clock: Clock
    context: Context
    kubelet: FakeKubelet | None
    controllers: list[Controller]

    async def until(self, holds: Callable[[], Any], what: str = "the condition") -> Any:
        """Wait until `holds()` is true, and return it."""
        deadline = self.clock.monotonic() + PATIENCE
        while not (found := holds()):
            assert self.clock.monotonic() < deadline, f"{what} did not come true in {PATIENCE} s"
            await self.clock.sleep(0.25)
        return found


def run(
    names: Iterable[str],
    scenario: Callable[[Plane], Coroutine[Any, Any, T]],
    *,
    node: bool = True,
    habits: Habits | None = None,
    settings: Settings | None = None,
    resources: Iterable[Resource] = (),
    prepare: Callable[[FakeApi], None] = lambda api: None,
) -> T:
    async def main(clock: Clock) -> T:
        api = FakeApi(clock, resources=resources)
        for name in ("default", "kube-system", "kube-node-lease"):
            api.put(
                Namespace(
                    metadata=ObjectMeta(name=name),
                    spec=NamespaceSpec(finalizers=["kubernetes"]),
                    status=NamespaceStatus(phase="Active"),
                )
            )
        prepare(api)
        client = api.client()
        informers = Informers(client, clock, random.Random(3), check_mutations=True)
        context = Context(client, informers, clock, random.Random(4), settings)
        controllers = [registry.build(name, context) for name in names]
        kubelet = FakeKubelet(api.client(), clock, habits=habits) if node else None
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(informers.run()), tasks.create_task(context.run_recorders())]
            if kubelet is not None:
                running.append(tasks.create_task(kubelet.run()))
            await informers.wait_synced()
            running += [tasks.create_task(controller.run()) for controller in controllers]
            result = await scenario(Plane(api, client, clock, context, kubelet, controllers))
            informers.check_mutations()
            for task in running:
                task.cancel()
        return result

    return virtual.run(main)
