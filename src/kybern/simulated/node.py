"""One simulated node: its Node object and lease, its watch, and its pods.

Made by fleet, one a name. Registration, lease and status reports are kubelet/node/registration's own. Fed with pods by
its reflector (or fleet's, shared by all); fleet calls `turn` for each pod that has one. Promise: a pod of which
nothing is to be done is forgotten but for its address.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from kybern.api import scalars
from kybern.api.core_v1 import Node, NodeCondition, NodeStatus, Pod
from kybern.client import shapes
from kybern.client.informer.reflector import Reflector
from kybern.client.recorder import EventRecorder
from kybern.client.rest import RestClient
from kybern.kubelet import podkeys
from kybern.kubelet.cri import contract
from kybern.kubelet.node import registration, status
from kybern.kubelet.status import sender
from kybern.machinery.clock import Clock
from kybern.machinery.status import ApiError
from kybern.simulated import life, runtime
from kybern.simulated.metrics import Metrics
from kybern.simulated.shape import RESERVE, Shape

# Nothing changes on a simulated node but what is told at once. Reports are due every 300 s; those of nodes that
# registered together must not come together.
STATUS_PERIODS = (150.0, 300.0)
RANGE_PAUSE = 0.5  # until the node's pod range is asked for again, doubled ...
LONGEST_PAUSE = 8.0  # ... up to this
SHORTEST_WAIT = 0.01  # between two looks at a pod
FIRST_HOST = 2  # in the pod range: the first is the bridge's
STRATEGIC = "application/strategic-merge-patch+json"
VERSION = contract.Version(runtime.NAME, "1.0", "v1")

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Held:
    """A pod of the node."""

    uid: str
    version: int  # the newest resourceVersion seen
    pod: Pod | None  # None: nothing is to be done about it
    since: float  # monotonic: first seen, or first seen deleted
    ip: str = ""
    is_ending: bool = False
    is_started: bool = False  # all containers were seen running


@dataclass(frozen=True, slots=True)
class Tools:
    """What all nodes share."""

    shape: Shape
    habits: life.Habits
    clock: Clock
    rng: random.Random
    metrics: Metrics
    enqueue: Callable[[str, str], None]  # (node, key of a pod): it has a turn
    watches: bool  # a node has a watch of its own
    events: bool


class SimulatedNode:
    """`run` until cancelled. Feeds on pods as informer.reflector.Sink."""

    shape = shapes.of(Pod)

    def __init__(self, number: int, client: RestClient, tools: Tools) -> None:
        self.identity = tools.shape.identity(number)
        self.name = self.identity.name
        self.registered = asyncio.Event()
        self._client = client
        self._tools = tools
        self._machine = tools.shape.machine(number)
        self._range = ""
        self._hosts: set[str] = set()  # addresses of pods
        self._pods: dict[str, _Held] = {}
        self._recorder = EventRecorder(client, tools.clock, "kubelet", host=self.name) if tools.events else None
        self._registration = registration.Registration(
            client,
            tools.clock,
            self.identity,
            self._machine,
            self._status,
            self._note_node,
            period=tools.rng.uniform(*STATUS_PERIODS),
        )

    def __len__(self) -> int:
        return len(self._pods)

    async def run(self) -> None:
        tools = self._tools
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._registration.run(), name=f"registration:{self.name}")
            if self._recorder is not None:
                tasks.create_task(self._recorder.run(), name=f"events:{self.name}")
            await self.registered.wait()
            await self._learn_range()
            if tools.watches:
                selector = f"spec.nodeName={self.name}"
                reflector = Reflector(self._client, self, tools.clock, tools.rng, field_selector=selector)
                tasks.create_task(reflector.run(), name=f"pods:{self.name}")

    # The Node object.

    async def _status(self, old: list[NodeCondition]) -> NodeStatus:
        health = status.Health(not_ready=() if self._range else ("the node has no range of pod addresses yet",))
        conditions = status.conditions(health, old, scalars.render_time(self._tools.clock.now()))
        return status.node_status(
            self.identity, self._machine, RESERVE, VERSION, contract.RuntimeStatus(), (), conditions
        )

    def _note_node(self, node: Node) -> None:
        """The server answered a report."""
        self.registered.set()
        if node.spec.podCIDR and not self._range:
            self._range = node.spec.podCIDR
            self._registration.report_soon()

    async def _learn_range(self) -> None:
        pause = RANGE_PAUSE
        while not self._range:
            await self._tools.clock.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
            try:
                self._note_node(await self._client.get(Node, "", self.name))
            except ApiError as error:
                log.warning("could not ask for the node's pod range", node=self.name, error=str(error))

    # Pods, as they are told.

    def replace(self, objects: Iterable[Pod], resource_version: str, *, exact: bool = False) -> None:
        """All pods of the node."""
        here = {}
        for pod in objects:
            here[podkeys.key_of(pod)] = pod
        for key in [key for key in self._pods if key not in here]:
            self._forget(key)
        for pod in here.values():
            self.upsert(pod)

    def upsert(self, pod: Pod) -> None:
        key = podkeys.key_of(pod)
        version = _number(pod)
        now = self._tools.clock.monotonic()
        held = self._pods.get(key)
        if held is not None and held.uid != pod.metadata.uid:
            self._forget(key)
            held = None
        if held is None:
            held = self._pods[key] = _Held(pod.metadata.uid, version, pod, now, is_started=_is_started(pod))
            self._take_address(held, pod.status.podIP or "")
        elif version <= held.version and held.is_started:
            return  # our own write, come back
        if not held.is_started and _is_started(pod):
            held.is_started = True
            created = scalars.parse_time(pod.metadata.creationTimestamp or "")
            self._tools.metrics.starts.observe((self._tools.clock.now() - created).total_seconds())
        if version <= held.version and held.pod is not pod:
            return
        if pod.metadata.deletionTimestamp and not held.is_ending:
            held.is_ending, held.since = True, now
        held.version, held.pod = version, pod
        self._tools.enqueue(self.name, key)

    def remove(self, pod: Pod) -> None:
        self._forget(podkeys.key_of(pod))

    def _forget(self, key: str) -> None:
        held = self._pods.pop(key, None)
        if held is not None:
            self._hosts.discard(held.ip)

    def _take_address(self, held: _Held, ip: str) -> None:
        if ip:
            held.ip = ip
            self._hosts.add(ip)

    def _address_for(self, held: _Held, pod: Pod) -> str:
        """The pod's own, or the lowest free one; "" where there is none."""
        if held.ip or pod.spec.hostNetwork or not self._range:
            return held.ip
        network = ipaddress.ip_network(self._range)
        for host in range(FIRST_HOST, network.num_addresses - 1):
            ip = str(network.network_address + host)
            if ip not in self._hosts:
                self._take_address(held, ip)
                break
        return held.ip

    # A pod's turn.

    async def turn(self, key: str) -> float | None:
        """Look at a pod and do what is to be done now. Seconds until it wants to be looked at again; None: when told.

        Raises ApiError: try again later.
        """
        held = self._pods.get(key)
        if held is None or held.pod is None:
            return None
        pod, tools = held.pod, self._tools
        place = life.Place(self.identity.addresses, self._address_for(held, pod))
        waited = tools.clock.monotonic() - held.since
        chosen = life.plan_turn(pod, place, tools.habits, tools.clock.now(), waited)
        try:
            if chosen.status is not None:
                pod = await self._report(held, pod, chosen)
            if chosen.is_over:
                await self._client.delete(Pod, pod.metadata.namespace, pod.metadata.name, uid=held.uid, grace_period=0)
        except ApiError as error:
            if not error.is_not_found and not (error.is_conflict and chosen.is_over):
                raise
            self._forget(key)  # gone, or a namesake is there
            return None
        if chosen.wake_after is None and held.pod is pod:
            held.pod = None
        return None if chosen.wake_after is None else max(SHORTEST_WAIT, chosen.wake_after)

    async def _report(self, held: _Held, pod: Pod, chosen: life.Turn) -> Pod:
        """The pod after its status was told, unless a newer one came meanwhile."""
        assert chosen.status is not None
        patch = sender.plan_patch(pod.status, chosen.status)
        if not patch:
            self._tools.metrics.turns.add("nothing new")
            return pod
        answer = await self._client.patch(
            Pod,
            pod.metadata.namespace,
            pod.metadata.name,
            {"metadata": {"uid": held.uid}, "status": patch},
            patch_type=STRATEGIC,
            subresource="status",
        )
        self._tools.metrics.turns.add("reported")
        if self._recorder is not None and patch.get("phase") == "Running":
            self._tell_start(pod)
        version = _number(answer)
        if held.pod is pod and version >= held.version:
            held.pod, held.version = answer, version
            return answer
        return pod

    def _tell_start(self, pod: Pod) -> None:
        """The events of a pod whose containers have started."""
        assert self._recorder is not None
        for role, container in podkeys.containers_of(pod):
            if role is podkeys.Role.EPHEMERAL:
                continue
            where = podkeys.field_path(pod, container.name)
            image = f'Container image "{container.image}" already present on machine'
            for reason, message in (
                ("Pulled", image),
                ("Created", f"Created container: {container.name}"),
                ("Started", f"Started container {container.name}"),
            ):
                self._recorder.event(pod, "Normal", reason, message, field_path=where)


def _number(pod: Pod) -> int:
    return int(pod.metadata.resourceVersion or 0)


def _is_started(pod: Pod) -> bool:
    shown = pod.status.containerStatuses
    return bool(shown) and all(c.state.running is not None or c.state.terminated is not None for c in shown)
