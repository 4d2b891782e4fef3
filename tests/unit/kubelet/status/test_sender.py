"""Statuses on their way to the API server."""

import asyncio

from kybern.api.core_v1 import ContainerStatus, Pod, PodCondition, PodIP, PodStatus
from kybern.api.meta_v1 import ObjectMeta
from kybern.kubelet.status import sender
from kybern.kubelet.status.sender import StatusSender
from kybern.machinery.status import ApiError
from kybern.testing import clock as virtual
from kybern.testing.fake_api import FakeApi


def condition(kind, status="True", **fields):
    return PodCondition(type=kind, status=status, **fields)


def test_a_patch_holds_only_what_differs():
    old = PodStatus(
        phase="Pending", podIPs=[PodIP(ip="1.1.1.1")], conditions=[condition("Ready", "False", message="x")]
    )
    new = PodStatus(
        phase="Running",
        podIPs=[PodIP(ip="2.2.2.2")],
        conditions=[condition("Ready")],
        containerStatuses=[ContainerStatus(name="a")],
    )
    patch = sender.plan_patch(old, new)
    assert patch["phase"] == "Running"
    assert patch["podIPs"] == [{"ip": "1.1.1.1", "$patch": "delete"}, {"ip": "2.2.2.2"}]
    assert patch["conditions"] == [{"type": "Ready", "status": "True", "message": None}]
    assert "hostIP" not in patch
    assert sender.plan_patch(new, new) == {}


def test_own_conditions_that_no_longer_hold_are_deleted_and_foreign_ones_left():
    old = PodStatus(conditions=[condition("PodResizeInProgress"), condition("example.com/x")])
    assert sender.plan_patch(old, PodStatus())["conditions"] == [{"type": "PodResizeInProgress", "$patch": "delete"}]


def test_a_reason_that_is_gone_is_taken_back():
    assert sender.plan_patch(PodStatus(reason="Evicted"), PodStatus()) == {"reason": None}


def drive(scenario):
    async def main(clock):
        api = FakeApi(clock)
        api.put(Pod(metadata=ObjectMeta(name="p", namespace="ns", uid="u1")))
        known = {"pod": api.get(Pod, "ns", "p")}

        def observe(pod):
            known["pod"] = pod

        tested = StatusSender(api.client(), clock, lambda ns, name: known["pod"], observe)
        async with asyncio.TaskGroup() as tasks:
            runner = tasks.create_task(tested.run())
            await scenario(tested, api, known)
            runner.cancel()

    virtual.run(main)


def phase(text):
    return PodStatus(phase=text)


def test_the_newest_status_arrives_and_what_was_offered_meanwhile_is_joined():
    async def scenario(tested, api, known):
        uid = known["pod"].metadata.uid
        for text in ("Pending", "Running", "Succeeded"):
            tested.offer(uid, "ns", "p", phase(text))
        await tested.wait_sent(uid)
        assert api.get(Pod, "ns", "p").status.phase == "Succeeded"

    drive(scenario)


def test_a_failed_write_is_tried_again():
    async def scenario(tested, api, known):
        uid = known["pod"].metadata.uid
        api.fail_next("patch pods/status", ApiError.internal("boom"), times=3)
        tested.offer(uid, "ns", "p", phase("Running"))
        await tested.wait_sent(uid)
        assert api.get(Pod, "ns", "p").status.phase == "Running"

    drive(scenario)


def test_a_namesake_gets_nothing():
    async def scenario(tested, api, known):
        tested.offer("another-uid", "ns", "p", phase("Failed"))
        await tested.wait_sent("another-uid")
        assert api.get(Pod, "ns", "p").status.phase != "Failed"

    drive(scenario)


def test_a_status_that_the_server_refuses_does_not_block_the_next():
    async def scenario(tested, api, known):
        uid = known["pod"].metadata.uid
        api.fail_next("patch pods/status", ApiError.invalid("", "Pod", "p", []), times=1)
        tested.offer(uid, "ns", "p", phase("Pending"))
        await tested.wait_sent(uid)
        tested.offer(uid, "ns", "p", phase("Running"))
        await tested.wait_sent(uid)
        assert api.get(Pod, "ns", "p").status.phase == "Running"

    drive(scenario)
