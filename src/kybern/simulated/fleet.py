"""All simulated nodes of a process: started a few at a time, and one queue of pods that have a turn.

Built by process/simulated_nodes. Each node has a watch of its own, as kubelets have; or all share one
(`watches=False`), which leaves out what thousands of watches cost the API server.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from dataclasses import dataclass, field

import structlog

from kybern.api.core_v1 import Pod
from kybern.client import shapes
from kybern.client.informer.reflector import Reflector
from kybern.client.rest import RestClient
from kybern.client.workqueue import WorkQueue
from kybern.machinery.clock import Clock
from kybern.machinery.status import ApiError
from kybern.simulated import life
from kybern.simulated.identity import ClientOf
from kybern.simulated.metrics import Metrics
from kybern.simulated.node import SimulatedNode, Tools
from kybern.simulated.shape import Shape

STARTING = 32  # nodes that register at the same time
WORKERS = 64  # turns under way

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Manners:
    """How the fleet behaves."""

    habits: life.Habits = field(default_factory=life.Habits)
    watches: bool = True  # a watch of its own for each node
    events: bool = True  # Pulled, Created, Started


class Fleet:
    """`run` until cancelled."""

    def __init__(
        self,
        shape: Shape,
        client_of: ClientOf,
        shared: RestClient,
        clock: Clock,
        rng: random.Random,
        manners: Manners = Manners(),
    ) -> None:
        """`shared`: of somebody who may watch all pods; used where nodes have no watches of their own."""
        self.metrics = Metrics()
        self._shape = shape
        self._client_of = client_of
        self._shared = shared
        self._clock = clock
        self._rng = rng
        self._watches = manners.watches
        self._queue = WorkQueue(clock)
        self.nodes: dict[str, SimulatedNode] = {}
        self._numbers = iter(range(shape.nodes))
        self._ready = asyncio.Event()
        self._tools = Tools(
            shape, manners.habits, clock, rng, self.metrics, self._enqueue, manners.watches, manners.events
        )
        registry = self.metrics.registry
        registry.read("gauge", "simulated_nodes", "Nodes that have registered", (), lambda: [((), self.registered)])
        registry.read(
            "gauge", "simulated_pods", "Pods on the nodes", (), lambda: [((), sum(map(len, self.nodes.values())))]
        )
        registry.read("gauge", "simulated_turns_waiting", "Pods that have a turn", (), lambda: [((), len(self._queue))])

    @property
    def registered(self) -> int:
        return sum(node.registered.is_set() for node in self.nodes.values())

    async def wait_registered(self) -> None:
        """Until every node has."""
        await self._ready.wait()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._queue.run(), name="queue")
            for number in range(WORKERS):
                tasks.create_task(self._work(), name=f"turns:{number}")
            if not self._watches:
                everything = Reflector(
                    self._shared, _Everything(self), self._clock, self._rng, field_selector="spec.nodeName!="
                )
                tasks.create_task(everything.run(), name="pods")
            starters = [tasks.create_task(self._start(tasks), name=f"start:{n}") for n in range(STARTING)]
            await asyncio.wait(starters)
            log.info("all nodes have registered", nodes=len(self.nodes))
            self._ready.set()

    async def _start(self, tasks: asyncio.TaskGroup) -> None:
        for number in self._numbers:
            name = self._shape.name(number)
            node = self.nodes[name] = SimulatedNode(number, self._client_of(name), self._tools)
            tasks.create_task(node.run(), name=f"node:{name}")
            await node.registered.wait()

    def _enqueue(self, node: str, key: str) -> None:
        self._queue.add(f"{node}|{key}")

    async def _work(self) -> None:
        while True:
            item = await self._queue.get()
            name, _, key = item.partition("|")
            try:
                again = await self.nodes[name].turn(key)
            except ApiError as error:
                pause = self._queue.add_rate_limited(item)
                log.warning("a pod's turn failed", node=name, pod=key, error=str(error), retry_in=round(pause, 3))
            except Exception:  # supervised: one pod must not stop the others
                pause = self._queue.add_rate_limited(item)
                log.exception("a pod's turn broke", node=name, pod=key, retry_in=round(pause, 3))
            else:
                self._queue.forget(item)
                if again is not None:
                    self._queue.add_after(item, again)
            finally:
                self._queue.done(item)


class _Everything:
    """informer.reflector.Sink: hands each pod to its node."""

    shape = shapes.of(Pod)

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def replace(self, objects: Iterable[Pod], resource_version: str, *, exact: bool = False) -> None:
        here: dict[str, list[Pod]] = {name: [] for name in self._fleet.nodes}
        for pod in objects:
            here.setdefault(pod.spec.nodeName or "", []).append(pod)
        for name, pods in here.items():
            if name in self._fleet.nodes:
                self._fleet.nodes[name].replace(pods, resource_version, exact=exact)

    def upsert(self, pod: Pod) -> None:
        node = self._fleet.nodes.get(pod.spec.nodeName or "")
        if node is not None:
            node.upsert(pod)

    def remove(self, pod: Pod) -> None:
        node = self._fleet.nodes.get(pod.spec.nodeName or "")
        if node is not None:
            node.remove(pod)
