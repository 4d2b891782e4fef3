"""A fleet on an API of dictionaries, under virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from kybern.api.coordination_v1 import Lease
from kybern.api.core_v1 import Container, Event, Node, Pod, PodSpec
from kybern.api.meta_v1 import ObjectMeta
from kybern.machinery.clock import Clock
from kybern.simulated.fleet import Fleet, Manners
from kybern.simulated.shape import Shape
from kybern.testing import clock as virtual
from kybern.testing.fake_api import FakeApi

PATIENCE = 600.0


class World:
    def __init__(self, clock: Clock, api: FakeApi, fleet: Fleet) -> None:
        self.clock, self.api, self.fleet = clock, api, fleet

    async def until(self, holds: Callable[[], Any]) -> Any:
        deadline = self.clock.monotonic() + PATIENCE
        while not (found := holds()):
            assert self.clock.monotonic() < deadline, "did not come true"
            await self.clock.sleep(0.1)
        return found

    def give_ranges(self) -> bool:
        """As the controller does it; true once all nodes have one."""
        nodes = self.api.list(Node)
        for number, node in enumerate(nodes):
            if not node.spec.podCIDR:
                cidr = f"10.1.{number}.0/29"
                self.api.edit(Node, "", node.metadata.name, lambda n, cidr=cidr: setattr(n.spec, "podCIDR", cidr))
        return len(nodes) == 3

    def pod(self, name: str, node: str) -> Pod:
        spec = PodSpec(nodeName=node, containers=[Container(name="c", image="i:1")], restartPolicy="Always")
        spec.terminationGracePeriodSeconds = 30
        return self.api.put(Pod(metadata=ObjectMeta(name=name, namespace="ns"), spec=spec))

    def phases(self) -> dict[str, str]:
        return {p.metadata.name: p.status.phase or "" for p in self.api.list(Pod)}


def run(scenario: Callable[[World], Coroutine[Any, Any, None]], **manners: Any) -> None:
    async def main(clock: Clock) -> None:
        api = FakeApi(clock)
        fleet = Fleet(Shape(3), api.client, api.client(), clock, random.Random(1), Manners(**manners))
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(fleet.run())
            world = World(clock, api, fleet)
            await fleet.wait_registered()
            await world.until(world.give_ranges)
            await scenario(world)
            running.cancel()

    virtual.run(main)


def is_ready(node: Node) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in node.status.conditions)


def test_nodes_get_ready_once_they_have_a_range_and_renew_their_leases() -> None:
    async def scenario(world: World) -> None:
        assert not any(is_ready(node) for node in world.api.list(Node))
        await world.until(lambda: all(is_ready(node) for node in world.api.list(Node)))
        first = {lease.metadata.name: lease.spec.renewTime for lease in world.api.list(Lease)}
        assert len(first) == 3
        await world.clock.sleep(11)
        later = {lease.metadata.name: lease.spec.renewTime for lease in world.api.list(Lease)}
        assert all(later[name] != first[name] for name in first)

    run(scenario)


@pytest.mark.parametrize("watches", [True, False])
def test_pods_run_with_addresses_of_their_own(watches: bool) -> None:
    async def scenario(world: World) -> None:
        for number in range(4):
            world.pod(f"p{number}", "simulated-1")
        await world.until(lambda: set(world.phases().values()) == {"Running"})
        ips = [pod.status.podIP or "" for pod in world.api.list(Pod)]
        assert len(set(ips)) == 4 and all(ip.startswith("10.1.1.") for ip in ips)
        assert world.fleet.metrics.starts.of(()).total == 4

    run(scenario, watches=watches)


@pytest.mark.parametrize("watches", [True, False])
def test_deleted_pods_go_and_give_their_addresses_back(watches: bool) -> None:
    async def scenario(world: World) -> None:
        for turn in range(4):  # more in all than the range has
            for number in range(4):
                world.pod(f"p{turn}-{number}", "simulated-0")
            await world.until(lambda: set(world.phases().values()) == {"Running"})
            assert all(pod.status.podIP for pod in world.api.list(Pod))
            for pod in world.api.list(Pod):
                await world.api.client().delete(Pod, "ns", pod.metadata.name)
            await world.until(lambda: not world.api.list(Pod))

    run(scenario, watches=watches)


def test_a_fleet_that_starts_anew_takes_over_what_runs() -> None:
    async def scenario(world: World) -> None:
        world.pod("old", "simulated-2")
        await world.until(lambda: set(world.phases().values()) == {"Running"})
        before = world.api.list(Pod)[0]
        api, clock = world.api, world.clock
        second = Fleet(Shape(3), api.client, api.client(), clock, random.Random(2))
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(second.run())
            await second.wait_registered()
            await clock.sleep(5)
            world.pod("new", "simulated-2")
            await world.until(lambda: set(world.phases().values()) == {"Running"})
            running.cancel()
        after = {pod.metadata.name: pod for pod in api.list(Pod)}
        assert after["old"].status == before.status
        assert after["new"].status.podIP != before.status.podIP

    run(scenario)


def test_events_tell_of_a_start_where_they_are_wanted() -> None:
    async def scenario(world: World) -> None:
        world.pod("p", "simulated-0")
        await world.until(lambda: len(world.api.list(Event)) == 3)
        assert [event.reason for event in world.api.list(Event)] == ["Pulled", "Created", "Started"]

    run(scenario, events=True)


def test_a_failed_write_is_tried_again() -> None:
    async def scenario(world: World) -> None:
        from kybern.machinery.status import ApiError

        world.api.fail_next("PATCH pods/status", ApiError.unavailable("gone for a moment"), times=2)
        world.pod("p", "simulated-0")
        await world.until(lambda: world.phases() == {"p": "Running"})

    run(scenario)
