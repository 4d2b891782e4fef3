"""The Deployments and Services that fill simulated nodes. `plan_workload` is pure; `apply_workload` creates.

Called by process/simulated_nodes once nodes are registering; also by bench/scale. The mix is that of upstream's load
test (kubernetes/perf-tests, clusterloader2 "load"): half of the pods in Deployments of 250, a quarter in those of 30
and a quarter in those of 5, one Service each, in one namespace a hundred nodes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kybern.api.apps_v1 import Deployment, DeploymentSpec
from kybern.api.core_v1 import (
    Container,
    ContainerPort,
    Namespace,
    PodSpec,
    PodTemplateSpec,
    ResourceRequirements,
    Service,
    ServicePort,
    ServiceSpec,
    Toleration,
)
from kybern.api.meta_v1 import LabelSelector, ObjectMeta
from kybern.api.scalars import Quantity
from kybern.client.rest import RestClient
from kybern.machinery.clock import Clock
from kybern.machinery.status import ApiError
from kybern.simulated import shape

NODES_A_NAMESPACE = 100
SIZES = ((250, 0.5), (30, 0.25), (5, 0.25))  # pods a Deployment, share of all pods
LABEL = "app"
OURS = "kybern.io/simulated"  # marks what was made here
AT_ONCE = 8  # creations under way


@dataclass(frozen=True, slots=True)
class Group:
    """One Deployment with its Service."""

    namespace: str
    name: str
    pods: int


def plan_workload(nodes: int, pods_per_node: int) -> list[Group]:
    """Groups of nodes * pods_per_node pods in all, spread over namespaces."""
    total = nodes * pods_per_node
    namespaces = max(1, -(-nodes // NODES_A_NAMESPACE))
    groups = []
    for index in range(namespaces):
        share = total * (index + 1) // namespaces - total * index // namespaces
        sizes = plan_sizes(share)
        groups += [Group(f"simulated-{index}", f"group-{i}", size) for i, size in enumerate(sizes)]
    return groups


def plan_sizes(pods: int) -> list[int]:
    """Sizes of Deployments, biggest first, that add up to `pods`."""
    sizes: list[int] = []
    for size, part in SIZES:
        sizes += [size] * int(pods * part // size)
    rest = pods - sum(sizes)
    smallest = SIZES[-1][0]
    sizes += [smallest] * (rest // smallest)
    return sizes + ([rest % smallest] if rest % smallest else [])


def deployment_of(group: Group) -> Deployment:
    labels = {LABEL: group.name}
    container = Container(
        name="app",
        image="registry.k8s.io/pause:3.10",
        ports=[ContainerPort(containerPort=80)],
        resources=ResourceRequirements(requests={"cpu": Quantity("10m"), "memory": Quantity("10Mi")}),
    )
    spec = PodSpec(
        containers=[container],
        nodeSelector={shape.TYPE_LABEL: shape.TYPE},
        tolerations=[Toleration(key=shape.TAINT.key, operator="Exists")],
        automountServiceAccountToken=False,
        terminationGracePeriodSeconds=1,
    )
    return Deployment(
        metadata=ObjectMeta(name=group.name, namespace=group.namespace, labels={**labels, OURS: "true"}),
        spec=DeploymentSpec(
            replicas=group.pods,
            selector=LabelSelector(matchLabels=labels),
            template=PodTemplateSpec(metadata=ObjectMeta(labels=labels), spec=spec),
        ),
    )


def service_of(group: Group) -> Service:
    return Service(
        metadata=ObjectMeta(name=group.name, namespace=group.namespace, labels={LABEL: group.name, OURS: "true"}),
        spec=ServiceSpec(selector={LABEL: group.name}, ports=[ServicePort(port=80)]),
    )


async def apply_workload(
    client: RestClient,
    clock: Clock,
    groups: list[Group],
    *,
    pods_per_second: float = 0.0,
    on_created: Callable[[Group], None] = lambda group: None,
) -> None:
    """Create what is missing; what is there is left alone.

    `pods_per_second`: no faster than this (0: as fast as it goes). Raises ApiError.
    """
    for name in sorted({group.namespace for group in groups}):
        await _ensure(client, Namespace(metadata=ObjectMeta(name=name)))
    began = clock.monotonic()
    asked = 0
    waiting = iter(_mixed(groups))

    async def work() -> None:
        nonlocal asked
        for group in waiting:
            ahead = asked / pods_per_second - (clock.monotonic() - began) if pods_per_second else 0.0
            asked += group.pods
            if ahead > 0:
                await clock.sleep(ahead)
            await _ensure(client, service_of(group))
            await _ensure(client, deployment_of(group))
            on_created(group)

    async with asyncio.TaskGroup() as tasks:
        for number in range(AT_ONCE):
            tasks.create_task(work(), name=f"workload:{number}")


def _mixed(groups: list[Group]) -> Iterator[Group]:
    """Big and small ones in turn, the same in every run."""
    count = len(groups)
    step = next((s for s in range(int(count * 0.382) | 1, count) if _is_coprime(s, count)), 1)
    return (groups[i * step % count] for i in range(count))


def _is_coprime(a: int, b: int) -> bool:
    while b:
        a, b = b, a % b
    return a == 1


async def _ensure(client: RestClient, obj: Namespace | Service | Deployment) -> None:
    try:
        await client.create(obj)
    except ApiError as error:
        if not error.is_already_exists:
            raise
