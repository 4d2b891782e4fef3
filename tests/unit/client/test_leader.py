"""Leader election between candidates on the fake API, in virtual time."""

import asyncio
import random

import pytest

from kybern.api.coordination_v1 import Lease
from kybern.client.leader import Election, Elector, LeadershipLost
from kybern.machinery.status import ApiError
from kybern.testing import clock as virtual
from kybern.testing.fake_api import FakeApi


def candidate(api, clock, name):
    return Elector(api.client(), clock, random.Random(name), Election("test", name))


def lease(api):
    return api.get(Lease, "kube-system", "test")


def test_one_leads_the_other_waits_and_takes_over_at_once_when_the_first_lets_go():
    async def main(clock):
        api = FakeApi(clock)
        log = []

        def work(name, seconds):
            async def lead():
                log.append((name, "starts", clock.monotonic()))
                await clock.sleep(seconds)
                log.append((name, "ends", clock.monotonic()))

            return lead

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(candidate(api, clock, "a").lead(work("a", 60)))
            await clock.sleep(1)
            tasks.create_task(candidate(api, clock, "b").lead(work("b", 5)))
        return log, lease(api).spec

    log, spec = virtual.run(main)
    assert [entry[:2] for entry in log] == [("a", "starts"), ("a", "ends"), ("b", "starts"), ("b", "ends")]
    assert log[2][2] - log[1][2] < 6, "a released lease is taken without waiting for it to run out"
    assert spec.holderIdentity == "" and spec.leaseTransitions == 1


def test_a_dead_leader_is_replaced_when_its_lease_has_run_out():
    async def main(clock):
        api = FakeApi(clock)
        times = {}

        async def hang():
            times["a"] = clock.monotonic()
            await asyncio.Event().wait()

        async def short():
            times["b"] = clock.monotonic()

        async with asyncio.TaskGroup() as tasks:
            dead = tasks.create_task(candidate(api, clock, "a").lead(hang))
            await clock.sleep(30)
            api.fail_next("update leases", ApiError.unavailable("cut off"))  # its farewell is lost too
            dead.cancel()
            tasks.create_task(candidate(api, clock, "b").lead(short))
        return times

    times = virtual.run(main)
    assert 30 + 11 <= times["b"] <= 30 + 25


def test_a_leader_that_cannot_renew_gives_up_before_another_may_take_over():
    async def main(clock):
        api = FakeApi(clock)
        stopped = []

        async def work():
            try:
                await asyncio.Event().wait()
            finally:
                stopped.append(clock.monotonic())

        async def cut():
            await clock.sleep(20)
            api.react("get leases", lambda call: ApiError.unavailable("cut off"))
            api.react("update leases", lambda call: ApiError.unavailable("cut off"))

        with pytest.raises(ExceptionGroup) as group:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(candidate(api, clock, "a").lead(work))
                tasks.create_task(cut())
        return stopped, group.value.exceptions

    stopped, errors = virtual.run(main)
    assert 28 <= stopped[0] <= 20 + 15
    assert isinstance(errors[0], LeadershipLost) and "not renewed" in str(errors[0])


def test_a_stolen_lease_ends_the_work_at_once():
    async def main(clock):
        api = FakeApi(clock)

        async def steal():
            await clock.sleep(10)
            api.edit(Lease, "kube-system", "test", lambda found: setattr(found.spec, "holderIdentity", "thief"))

        with pytest.raises(ExceptionGroup) as group:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(candidate(api, clock, "a").lead(asyncio.Event().wait))
                tasks.create_task(steal())
        return clock.monotonic(), str(group.value.exceptions[0]), lease(api).spec.holderIdentity

    when, message, holder = virtual.run(main)
    assert when <= 14 and "thief" in message and holder == "thief"


def test_of_many_candidates_never_two_lead_together():
    async def main(clock):
        api = FakeApi(clock)
        leading = set()
        most = []
        dice = random.Random(7)
        for what in ("get leases", "update leases", "create leases"):
            api.react(what, lambda call: ApiError.unavailable("busy") if dice.random() < 0.2 else None)

        def work(name):
            async def lead():
                leading.add(name)
                most.append(len(leading))
                try:
                    await clock.sleep(dice.uniform(5, 60))
                finally:
                    leading.discard(name)

            return lead

        async def keep(name):
            while clock.monotonic() < 1500:
                try:
                    await candidate(api, clock, name).lead(work(name))
                except LeadershipLost:
                    pass

        async with asyncio.TaskGroup() as tasks:
            for name in "abcd":
                tasks.create_task(keep(name))
        return most

    most = virtual.run(main)
    assert len(most) > 20 and max(most) == 1


def test_an_error_of_the_work_is_its_own():
    async def main(clock):
        api = FakeApi(clock)

        async def broken():
            raise ValueError("bug")

        with pytest.raises(BaseExceptionGroup) as group:
            await candidate(api, clock, "a").lead(broken)
        return group.value.split(ValueError)[1], lease(api).spec.holderIdentity

    assert virtual.run(main) == (None, "")
