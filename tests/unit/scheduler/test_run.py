"""The whole scheduler on an in-memory API, under virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import msgspec

from kybern.api import codec
from kybern.api.core_v1 import Event, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod
from kybern.api.meta_v1 import ObjectMeta
from kybern.api.storage_v1 import StorageClass
from kybern.client.informer import Informers
from kybern.machinery.clock import Clock
from kybern.machinery.status import ApiError
from kybern.scheduler.profile import default_profile
from kybern.scheduler.run import Scheduler
from kybern.testing import clock as virtual
from kybern.testing.fake_api import Call, FakeApi
from kybern.testing.scheduler_worlds import node_of, pod_of


@dataclass
class Plane:
    api: FakeApi
    clock: Clock
    scheduler: Scheduler

    def node(self, name: str, **short: Any) -> None:
        self.api.put(codec.decode(Node, msgspec.json.encode(node_of(name, short))))

    def pod(self, name: str, **short: Any) -> None:
        full = pod_of(name, short)
        full.setdefault("status", {"phase": "Pending"})
        self.api.put(codec.decode(Pod, msgspec.json.encode(full)))

    def get(self, name: str) -> Pod:
        pod = self.api.get(Pod, "default", name)
        assert pod is not None
        return pod

    def events(self, name: str) -> list[tuple[str, str]]:
        found = [e for e in self.api.list(Event) if e.involvedObject.name == name]
        return [(e.reason or "", e.message or "") for e in found]

    def calls(self, what: str) -> list[Call]:
        return [c for c in self.api.calls if c.what == what]

    async def until(self, holds: Callable[[], Any], what: str = "the condition") -> None:
        for _ in range(4000):
            if holds():
                return
            await self.clock.sleep(0.05)
        raise AssertionError(f"{what} did not come true")


def run(scenario: Callable[[Plane], Coroutine[Any, Any, None]]) -> None:
    async def main(clock: Clock) -> None:
        api = FakeApi(clock)
        api.put(Namespace(metadata=ObjectMeta(name="default")))
        client = api.client()
        informers = Informers(client, clock, random.Random(3), check_mutations=True)
        scheduler = Scheduler(client, informers, clock, random.Random(4), [default_profile()])
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(scheduler.run())
            await scenario(Plane(api, clock, scheduler))
            informers.check_mutations()
            running.cancel()

    virtual.run(main)


def test_a_pod_is_bound_and_people_are_told() -> None:
    async def scenario(plane: Plane) -> None:
        plane.node("n1")
        plane.pod("p", requests={"cpu": "1"})
        await plane.until(lambda: plane.get("p").spec.nodeName == "n1")
        await plane.until(lambda: plane.events("p"))
        assert plane.events("p") == [("Scheduled", "Successfully assigned default/p to n1")]
        decision = plane.scheduler.why(plane.get("p").metadata.uid)
        assert decision is not None
        assert decision.node == "n1"

    run(scenario)


def test_a_pod_that_fits_nowhere_says_why_and_goes_where_room_appears() -> None:
    async def scenario(plane: Plane) -> None:
        plane.node("n1")
        plane.pod("p", requests={"cpu": "5"})
        await plane.until(lambda: plane.get("p").status.conditions)
        condition = plane.get("p").status.conditions[0]
        assert (condition.type, condition.status, condition.reason) == ("PodScheduled", "False", "Unschedulable")
        assert (condition.message or "").startswith("0/1 nodes are available: 1 Insufficient cpu.")
        assert plane.events("p") == [("FailedScheduling", condition.message)]
        plane.node("n2", amounts={"cpu": "8"})
        await plane.until(lambda: plane.get("p").spec.nodeName == "n2")

    run(scenario)


def test_pods_of_other_schedulers_and_gated_pods_are_left_alone() -> None:
    async def scenario(plane: Plane) -> None:
        plane.node("n1")
        plane.pod("theirs", schedulerName="theirs")
        plane.pod("gated", schedulingGates=[{"name": "later"}])
        plane.pod("ours")
        await plane.until(lambda: plane.get("ours").spec.nodeName)
        await plane.clock.sleep(400)
        assert not plane.get("theirs").spec.nodeName
        assert not plane.get("gated").spec.nodeName
        plane.api.edit(Pod, "default", "gated", lambda pod: pod.spec.schedulingGates.clear())
        await plane.until(lambda: plane.get("gated").spec.nodeName)

    run(scenario)


def test_pods_that_come_at_once_never_share_what_is_there_once() -> None:
    async def scenario(plane: Plane) -> None:
        for i in range(3):
            plane.node(f"n{i}")
        for i in range(20):
            plane.pod(f"p{i}", requests={"cpu": "1"})
        await plane.until(lambda: sum(bool(p.spec.nodeName) for p in plane.api.list(Pod)) == 12)
        await plane.clock.sleep(60)
        places = [p.spec.nodeName for p in plane.api.list(Pod) if p.spec.nodeName]
        assert sorted(places.count(f"n{i}") for i in range(3)) == [4, 4, 4]

    run(scenario)


def test_a_failed_binding_is_forgotten_and_tried_again_after_a_pause() -> None:
    async def scenario(plane: Plane) -> None:
        plane.api.fail_next("create pods/binding", ApiError.internal("boom"), times=2)
        plane.node("n1")
        plane.pod("big", requests={"cpu": "4"})
        await plane.until(lambda: len(plane.calls("create pods/binding")) == 1)
        first = plane.clock.monotonic()
        await plane.until(lambda: plane.get("big").spec.nodeName == "n1")
        assert 3 <= plane.clock.monotonic() - first <= 4.5
        assert any(reason == "FailedScheduling" for reason, _ in plane.events("big"))

    run(scenario)


def test_a_pod_deleted_while_it_is_bound_leaves_nothing_behind() -> None:
    async def scenario(plane: Plane) -> None:
        def gone(call: Call) -> ApiError | None:
            if plane.api.get(Pod, "default", "p"):
                plane.api.remove(Pod, "default", "p")
            return None

        plane.api.react("create pods/binding", gone)
        plane.node("n1")
        plane.pod("p", requests={"cpu": "4"})
        await plane.until(lambda: plane.calls("create pods/binding"))
        await plane.clock.sleep(5)
        assert not plane.scheduler.cluster.snapshot.pods
        assert len(plane.scheduler.queue) == 0

    run(scenario)


def test_a_more_important_pod_takes_the_place_of_a_lesser_one() -> None:
    async def scenario(plane: Plane) -> None:
        plane.node("n1")
        plane.pod("low", at="n1", requests={"cpu": "3"}, priority=1)
        plane.pod("high", requests={"cpu": "3"}, priority=10)
        await plane.until(lambda: plane.get("high").status.nominatedNodeName == "n1")
        await plane.until(lambda: plane.get("low").metadata.deletionTimestamp)
        target = next(c for c in plane.get("low").status.conditions if c.type == "DisruptionTarget")
        assert (target.status, target.reason) == ("True", "PreemptionByScheduler")
        # One that comes meanwhile must not take the room that is kept.
        plane.pod("greedy", requests={"cpu": "2"}, priority=5)
        await plane.until(lambda: plane.get("greedy").status.conditions)
        plane.api.remove(Pod, "default", "low")
        await plane.until(lambda: plane.get("high").spec.nodeName == "n1")
        await plane.clock.sleep(30)
        assert not plane.get("greedy").spec.nodeName
        assert len(plane.calls("delete pods")) == 1
        uid = plane.get("high").metadata.uid
        assert ("Preempted", f"Preempted by pod {uid} on node n1") in plane.events("low")

    run(scenario)


def test_no_more_victims_are_taken_while_the_first_are_going() -> None:
    async def scenario(plane: Plane) -> None:
        for i in range(2):
            plane.node(f"n{i}")
            plane.pod(f"low{i}", at=f"n{i}", requests={"cpu": "3"}, priority=1)
        plane.pod("high", requests={"cpu": "3"}, priority=10)
        await plane.until(lambda: plane.calls("delete pods"))
        plane.node("n2", amounts={"cpu": "1"})  # an occasion to look again
        await plane.clock.sleep(400)
        assert len(plane.calls("delete pods")) == 1

    run(scenario)


def test_a_claim_that_waits_for_its_consumer_gets_a_volume_first() -> None:
    async def scenario(plane: Plane) -> None:
        plane.api.put(
            StorageClass(
                metadata=ObjectMeta(name="local"),
                provisioner="kubernetes.io/no-provisioner",
                volumeBindingMode="WaitForFirstConsumer",
            )
        )
        spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": "local"}
        hosts = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n2"]}]}]
        volume = {
            "metadata": {"name": "v"},
            "spec": {
                **spec,
                "capacity": {"storage": "1Gi"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": hosts}},
            },
        }
        claim = {
            "metadata": {"name": "c", "namespace": "default"},
            "spec": {**spec, "resources": {"requests": {"storage": "1Gi"}}},
        }
        plane.api.put(codec.decode(PersistentVolume, msgspec.json.encode(volume)))
        plane.api.put(codec.decode(PersistentVolumeClaim, msgspec.json.encode(claim)))
        plane.node("n1")
        plane.node("n2")
        plane.pod("p", volumes=[{"name": "x", "persistentVolumeClaim": {"claimName": "c"}}])

        def promised() -> bool:
            found = plane.api.get(PersistentVolume, "", "v")
            return found is not None and found.spec.claimRef is not None and found.spec.claimRef.name == "c"

        await plane.until(promised)
        assert not plane.get("p").spec.nodeName

        def bind(found: PersistentVolumeClaim) -> None:
            found.spec.volumeName = "v"
            found.status.phase = "Bound"

        plane.api.edit(PersistentVolumeClaim, "default", "c", bind)
        await plane.until(lambda: plane.get("p").spec.nodeName == "n2")

    run(scenario)


def test_a_pod_that_waits_gets_the_room_of_one_whose_binding_failed() -> None:
    async def scenario(plane: Plane) -> None:
        plane.api.react(
            "create pods/binding",
            lambda call: ApiError.internal("boom") if call.name == "unlucky" else None,
        )
        plane.node("n1")
        plane.pod("unlucky", requests={"cpu": "4"})
        plane.pod("waiting", requests={"cpu": "4"})
        await plane.until(lambda: plane.get("waiting").spec.nodeName == "n1")

    run(scenario)
