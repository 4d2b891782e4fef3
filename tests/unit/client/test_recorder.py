"""Events: counted, combined, throttled, never in anybody's way."""

import asyncio

from kybern.api.core_v1 import Event, Pod
from kybern.api.meta_v1 import ObjectMeta
from kybern.client import recorder as recorders
from kybern.client.recorder import EventRecorder
from kybern.machinery.status import ApiError
from kybern.testing import clock as virtual
from kybern.testing.fake_api import FakeApi

POD = Pod(metadata=ObjectMeta(name="p", namespace="default", uid="u"))


def drive(scenario):
    async def main(clock):
        api = FakeApi(clock)
        recorder = EventRecorder(api.client(), clock, "tester", host="h")
        async with asyncio.TaskGroup() as tasks:
            runner = tasks.create_task(recorder.run())
            result = await scenario(api, recorder, clock)
            runner.cancel()
        return result

    return virtual.run(main)


def test_an_event_tells_whom_what_when_and_by_whom():
    async def scenario(api, recorder, clock):
        recorder.event(POD, "Warning", "Failed", "it broke")
        await clock.sleep(1)
        return api.list(Event)

    (event,) = drive(scenario)
    assert event.metadata.name.startswith("p.") and event.metadata.namespace == "default"
    assert (event.type, event.reason, event.message, event.count) == ("Warning", "Failed", "it broke", 1)
    assert (event.involvedObject.kind, event.involvedObject.uid) == ("Pod", "u")
    assert (event.source.component, event.source.host, event.reportingComponent) == ("tester", "h", "tester")
    assert event.firstTimestamp == event.lastTimestamp == "2026-01-01T00:00:00Z"


def test_the_same_event_again_is_counted():
    async def scenario(api, recorder, clock):
        for _ in range(5):
            recorder.event(POD, "Normal", "Pulled", "got it")
            await clock.sleep(10)
        return api.list(Event)

    (event,) = drive(scenario)
    assert (event.count, event.lastTimestamp) == (5, "2026-01-01T00:00:40Z")


def test_an_expired_event_is_written_anew():
    async def scenario(api, recorder, clock):
        recorder.event(POD, "Normal", "Pulled", "got it")
        await clock.sleep(1)
        api.remove(Event, "default", api.list(Event)[0].metadata.name)
        recorder.event(POD, "Normal", "Pulled", "got it")
        await clock.sleep(1)
        return [e.count for e in api.list(Event)]

    assert drive(scenario) == [1]


def test_many_alike_become_one():
    async def scenario(api, recorder, clock):
        for number in range(20):
            recorder.event(POD, "Normal", "Created", f"created pod {number}")
        await clock.sleep(1)
        return api.list(Event)

    events = drive(scenario)
    combined = [e for e in events if e.message.startswith("(combined from similar events): ")]
    assert len(events) == recorders.ALIKE_LIMIT + 1 and len(combined) == 1 and combined[0].count == 10


def test_a_component_that_goes_on_about_one_object_is_throttled_and_others_are_not():
    async def scenario(api, recorder, clock):
        for number in range(100):
            recorder.event(POD, "Normal", f"R{number}", "m")
        recorder.event(Pod(metadata=ObjectMeta(name="other", namespace="default", uid="v")), "Normal", "R", "m")
        await clock.sleep(1)
        first = len(api.list(Event))
        await clock.sleep(700)
        for number in range(100):
            recorder.event(POD, "Normal", f"S{number}", "m")
        await clock.sleep(1)
        return first, len(api.list(Event)) - first

    assert drive(scenario) == (recorders.BURST + 1, 2)


def test_a_full_queue_drops_and_a_broken_server_harms_nobody():
    async def scenario(api, recorder, clock):
        api.fail_next("create events", ApiError.unavailable("down"), times=1000)
        for number in range(recorders.QUEUE_LIMIT + 50):
            recorder.event(Pod(metadata=ObjectMeta(name=f"p{number}", namespace="default")), "Normal", "R", "m")
        dropped = recorder.dropped
        await clock.sleep(60)
        recorder.event(POD, "Normal", "R", "m")
        return dropped

    assert drive(scenario) == 50


def test_names_are_unique_even_at_one_moment():
    async def scenario(api, recorder, clock):
        for number in range(5):
            recorder.event(POD, "Normal", f"R{number}", "m")
        await clock.sleep(1)
        return len(api.list(Event))

    assert drive(scenario) == 5
