from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kybern.api.core_v1 import Pod
from kybern.apiserver.registry.object_codec import StructCodec
from kybern.apiserver.watch_cache.cache import Event
from kybern.apiserver.watch_cache.entry import Entry, splice
from kybern.apiserver.watch_cache.hub import MAX_BEHIND, Hub, Selection
from kybern.machinery import fields, labels
from kybern.storage.interface import Revision
from kybern.testing.api_server import MemorySink
from kybern.wire.http1.body import frame_chunk


class Plain:
    """Tells `kind name revision`; counts how often it was asked."""

    key = "plain"

    def __init__(self, fault: Exception | None = None) -> None:
        self.frames = 0
        self._fault = fault

    @property
    def rest(self) -> Plain:
        return self

    def frame(self, kind: str, entry: Entry, revision: int) -> bytes:
        self.frames += 1
        if self._fault is not None:
            raise self._fault
        return frame_chunk(f"{kind} {entry.name} {revision}".encode())

    def bookmark(self, revision: int, annotations: Mapping[str, str]) -> bytes:
        return frame_chunk(f"BOOKMARK {revision}".encode())


class Odd(Plain):
    key = "odd"


class First(Plain):
    """Tells a watch's first event otherwise."""

    key = "first"
    later = Plain()

    @property
    def rest(self) -> Plain:
        return self.later

    def frame(self, kind: str, entry: Entry, revision: int) -> bytes:
        return frame_chunk(f"FIRST {kind} {entry.name} {revision}".encode())


def entry(name: str, revision: int, node: str = "", **text: str) -> Entry:
    value = b'{"kind":"Pod","apiVersion":"v1","metadata":{}}'
    known = {"metadata.name": name, "spec.nodeName": node}
    return Entry(f"/registry/pods/a/{name}", "a", name, value, Revision(revision), text, known, StructCodec(Pod))


def selection(namespace: str | None = None, label: str = "", field: str = "") -> Selection:
    by_label = labels.parse_selector(label) if label else None
    by_field = fields.parse_selector(field) if field else None
    return Selection(namespace, by_label, by_field, (namespace, label, field))


def told(sink: MemorySink) -> list[str]:
    return [sink.received.get_nowait().decode() for _ in range(sink.received.qsize())]


def follow(hub: Hub, form: Plain, **wanted: Any) -> MemorySink:
    sink = MemorySink()
    hub.subscribe(selection(**wanted), form, sink, bookmarks=True)
    return sink


def test_watchers_of_the_same_thing_share_one_frame() -> None:
    hub, form = Hub(), Plain()
    sinks = [follow(hub, form) for _ in range(50)]
    hub.publish(Event(Revision(5), entry("p", 5), None))
    assert form.frames == 1
    assert [told(s) for s in sinks] == [["ADDED p 5"]] * 50


def test_a_first_event_may_be_told_otherwise_than_the_rest() -> None:
    hub, form = Hub(), First()
    early = follow(hub, form)
    hub.publish(Event(Revision(5), entry("p", 5), None))
    late, other = follow(hub, form), follow(hub, form.later)
    hub.publish(Event(Revision(6), entry("q", 6), None))
    hub.bookmark(7)
    assert told(early) == ["FIRST ADDED p 5", "ADDED q 6", "BOOKMARK 7"]
    assert told(late) == ["FIRST ADDED q 6", "BOOKMARK 7"]
    assert told(other) == ["ADDED q 6", "BOOKMARK 7"]
    assert (hub.watchers, hub.listening("a")) == (3, 3)


def test_each_is_told_what_concerns_it() -> None:
    hub, form = Hub(), Plain()
    here, elsewhere = follow(hub, form, namespace="a"), follow(hub, form, namespace="b")
    old_node, new_node = (follow(hub, form, field=f"spec.nodeName={n}") for n in ("n1", "n2"))
    web = follow(hub, form, label="app=web")
    hub.publish(Event(Revision(2), entry("p", 2, "n2", app="web"), entry("p", 1, "n1")))
    hub.publish(Event(Revision(3), None, entry("p", 2, "n2", app="web")))
    assert told(here) == ["MODIFIED p 2", "DELETED p 3"]
    assert told(elsewhere) == []
    assert told(old_node) == ["DELETED p 2"]
    assert told(new_node) == ["ADDED p 2", "DELETED p 3"]
    assert told(web) == ["ADDED p 2", "DELETED p 3"]


def test_an_event_that_cannot_be_told_ends_those_watches_only() -> None:
    hub = Hub()
    good, bad = follow(hub, Plain()), follow(hub, Odd(ValueError("no such column")))
    hub.publish(Event(Revision(5), entry("p", 5), None))
    assert told(good) == ["ADDED p 5"]
    assert (good.closed, bad.closed) == (False, True)
    assert hub.watchers == 1


def test_who_is_too_far_behind_is_cut_off() -> None:
    hub, form = Hub(), Plain()
    slow, quick = follow(hub, form), follow(hub, form)
    slow.buffered = MAX_BEHIND + 1
    hub.publish(Event(Revision(5), entry("p", 5), None))
    hub.bookmark(6)
    assert slow.closed
    assert told(slow) == []
    assert told(quick) == ["ADDED p 5", "BOOKMARK 6"]


def test_selections_that_only_look_alike_are_kept_apart() -> None:
    hub, form = Hub(), Plain()
    first = follow(hub, form, namespace="a|app=web")
    second = follow(hub, form, namespace="a", label="app=web")
    hub.publish(Event(Revision(5), entry("p", 5, app="web"), None))
    assert (told(first), told(second)) == ([], ["ADDED p 5"])


def test_a_version_is_spliced_in_front_of_other_metadata() -> None:
    assert splice(b'{"metadata":{}}', 7) == b'{"metadata":{"resourceVersion":"7"}}'
    assert splice(b'{"metadata":{"name":"a"}}', 70) == b'{"metadata":{"resourceVersion":"70","name":"a"}}'
    found = entry("p", 9)
    assert found.data_at(1234) == found.data.replace(b'"9"', b'"1234"')
