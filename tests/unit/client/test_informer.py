"""Informers against the fake API: lists, watches, expiry, broken connections, own writes."""

import asyncio
import contextlib

import pytest
import structlog.testing

from kybern.api.core_v1 import ConfigMap
from kybern.api.meta_v1 import ObjectMeta
from kybern.client.informer import Informers
from kybern.machinery import labels
from kybern.machinery.status import ApiError
from kybern.testing import clock as virtual
from kybern.testing.fake_api import FakeApi


def config(name, labels=None, **data):
    return ConfigMap(metadata=ObjectMeta(name=name, namespace="default", labels=labels or {}), data=data)


def drive(scenario):
    """Run `scenario(api, client, informers, clock)` beside running informers."""

    async def main(clock):
        api = FakeApi(clock)
        client = api.client()
        informers = Informers(client, clock, check_mutations=True)
        async with asyncio.TaskGroup() as tasks:
            runner = tasks.create_task(informers.run())
            result = await scenario(api, client, informers, clock)
            informers.check_mutations()
            runner.cancel()
        return result

    return virtual.run(main)


def test_an_informer_holds_what_is_there_and_follows_every_change():
    async def scenario(api, client, informers, clock):
        api.put(config("a"))
        informer = informers.of(ConfigMap)
        changes = []
        informer.on_change(lambda old, new: changes.append((old and dict(old.data), new and dict(new.data))))
        await informer.wait_synced()
        await client.create(config("b", x="1"))
        await client.patch(ConfigMap, "default", "b", {"data": {"x": "2"}})
        await client.delete(ConfigMap, "default", "a")
        await clock.sleep(1)
        return [o.metadata.name for o in informer.list()], changes

    names, changes = drive(scenario)
    assert names == ["b"]
    assert changes == [(None, {}), (None, {"x": "1"}), ({"x": "1"}, {"x": "2"}), ({}, None)]


def test_a_late_handler_is_told_what_is_there():
    async def scenario(api, client, informers, clock):
        api.put(config("a"))
        informer = informers.of(ConfigMap)
        await informer.wait_synced()
        seen = []
        informer.on_change(lambda old, new: seen.append(new.metadata.name))
        return seen

    assert drive(scenario) == ["a"]


def test_an_observed_write_is_read_at_once_and_told_only_once():
    async def scenario(api, client, informers, clock):
        informer = informers.of(ConfigMap)
        await informer.wait_synced()
        told = []
        informer.on_change(lambda old, new: told.append(new.metadata.name))
        informer.observe(await client.create(config("mine")))
        now = informer.get("default", "mine") is not None
        await clock.sleep(1)
        return now, told

    assert drive(scenario) == (True, ["mine"])


def test_an_answer_slower_than_the_deletion_does_not_bring_the_object_back():
    async def scenario(api, client, informers, clock):
        informer = informers.of(ConfigMap)
        await informer.wait_synced()
        answer = await client.create(config("gone"))
        await client.delete(ConfigMap, "default", "gone")
        await clock.sleep(1)
        informer.observe(answer)
        return informer.get("default", "gone")

    assert drive(scenario) is None


def test_a_namesake_is_a_deletion_and_an_addition():
    async def scenario(api, client, informers, clock):
        first = api.put(config("a"))
        informer = informers.of(ConfigMap)
        told = []
        informer.on_change(lambda old, new: told.append((old and old.metadata.uid, new and new.metadata.uid)))
        await informer.wait_synced()
        api.break_watches()
        api.remove(ConfigMap, "default", "a")
        second = api.put(config("a"))
        api.compact()
        await clock.sleep(60)
        return told, first.metadata.uid, second.metadata.uid

    told, first, second = drive(scenario)
    assert told == [(None, first), (first, None), (None, second)]


def test_after_expiry_it_lists_anew_and_tells_what_was_missed():
    async def scenario(api, client, informers, clock):
        api.put(config("kept", v="1"))
        api.put(config("lost"))
        informer = informers.of(ConfigMap)
        await informer.wait_synced()
        await clock.sleep(1)
        api.break_watches()
        api.remove(ConfigMap, "default", "lost")
        api.put(config("kept", v="2"))
        api.compact()
        await clock.sleep(120)
        return {o.metadata.name: dict(o.data) for o in informer.list()}, [c.verb for c in api.calls]

    objects, verbs = drive(scenario)
    assert objects == {"kept": {"v": "2"}}
    assert verbs.count("list") == 2


def test_a_broken_watch_goes_on_where_it_was_without_a_list():
    async def scenario(api, client, informers, clock):
        informer = informers.of(ConfigMap)
        await informer.wait_synced()
        await clock.sleep(1)
        api.fail_next("watch configmaps", ApiError.unavailable("going down"), times=3)
        api.break_watches()
        api.put(config("meanwhile"))
        await clock.sleep(120)
        return informer.get("default", "meanwhile") is not None, [c.verb for c in api.calls].count("list")

    assert drive(scenario) == (True, 1)


def test_of_a_kind_that_is_not_served_it_speaks_once_and_has_it_when_it_is():
    async def scenario(api, client, informers, clock):
        api.put(config("there"))
        api.fail_next("list configmaps", ApiError.not_found("", "configmaps", ""), times=5)
        with structlog.testing.capture_logs() as said:
            informer = informers.of(ConfigMap)
            await informer.wait_synced()
        return [entry["log_level"] for entry in said], len(informer.list())

    assert drive(scenario) == (["warning", "debug", "debug", "debug", "debug"], 1)


def test_bookmarks_move_the_version_so_that_a_quiet_watch_does_not_expire():
    async def scenario(api, client, informers, clock):
        informer = informers.of(ConfigMap, label_selector="app=x")
        await informer.wait_synced()
        await clock.sleep(1)
        for i in range(5):
            api.put(config(f"other-{i}"))
        api.bookmark()
        await clock.sleep(1)
        api.compact()
        await clock.sleep(120)
        return [c.verb for c in api.calls].count("list")

    assert drive(scenario) == 1


def test_a_store_set_back_to_an_older_state_is_believed_after_expiry():
    async def scenario(api, client, informers, clock):
        api.revision = 1000
        api.put(config("new"))
        informer = informers.of(ConfigMap)
        await informer.wait_synced()
        await clock.sleep(1)
        api.revision = 5
        api.remove(ConfigMap, "default", "new")
        api.put(config("old", v="1"))
        api.compact()
        api.fail_next("watch configmaps", ApiError.timeout("Too large resource version: 1000, current: 7"))
        await clock.sleep(120)
        return [o.metadata.name for o in informer.list()]

    assert drive(scenario) == ["old"]


def test_labels_select_and_indexes_answer():
    async def scenario(api, client, informers, clock):
        api.put(config("a", {"app": "x"}))
        api.put(config("b", {"app": "y"}))
        informer = informers.of(ConfigMap)
        informer.add_index("app", lambda obj: [obj.metadata.labels["app"]])
        await informer.wait_synced()
        api.put(config("a", {"app": "y"}))
        await clock.sleep(1)
        selected = [o.metadata.name for o in informer.list(selector=labels.parse_selector("app=y"))]
        return selected, [o.metadata.name for o in informer.by_index("app", "y")], informer.by_index("app", "x")

    assert drive(scenario) == (["a", "b"], ["b", "a"], [])


def test_a_changed_shared_object_is_found_out():
    async def scenario(api, client, informers, clock):
        api.put(config("a"))
        informer = informers.of(ConfigMap)
        await informer.wait_synced()
        informer.list()[0].data["oops"] = "1"
        with pytest.raises(AssertionError, match="was changed"):
            informers.check_mutations()
        informer.list()[0].data.clear()

    drive(scenario)


def test_a_faulty_handler_stops_neither_the_watch_nor_the_others():
    async def scenario(api, client, informers, clock):
        informer = informers.of(ConfigMap)
        told = []

        def faulty(old, new):
            raise RuntimeError("broken")

        informer.on_change(faulty)
        informer.on_change(lambda old, new: told.append(new.metadata.name))
        await informer.wait_synced()
        api.put(config("a"))
        await clock.sleep(1)
        return told

    assert drive(scenario) == ["a"]


def test_two_callers_share_one_informer_and_a_late_one_starts_at_once():
    async def scenario(api, client, informers, clock):
        assert informers.of(ConfigMap) is informers.of(ConfigMap)
        assert informers.of(ConfigMap, namespace="x") is not informers.of(ConfigMap)
        api.put(config("a"))
        await clock.sleep(1)
        late = informers.of(ConfigMap, field_selector="metadata.name=a")
        await late.wait_synced()
        return len(late)

    assert drive(scenario) == 1


def test_leaving_a_watch_early_lets_go_of_it():
    async def scenario(api, client, informers, clock):
        api.put(config("a"))
        async with contextlib.aclosing(client.watch(ConfigMap, "default", resource_version="0")) as events:
            async for event in events:
                first = event
                break
        return first.type, len(api._watches)

    assert drive(scenario) == ("ADDED", 0)
