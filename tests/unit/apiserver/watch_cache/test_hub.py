from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kybern.api.core_v1 import Pod
from kybern.apiserver.registry.object_codec import StructCodec
from kybern.apiserver.watch_cache.cache import Event
from kybern.apiserver.watch_cache.entry import Entry, splice
from kybern.apiserver.watch_cache.hub import MAX_BEHIND, Hub, Selection
from kybern.machinery import fields, labels
from kybern.storage.interface import Revision
from kybern.testing.api_server import MemorySink
from kybern.wire.http1.body import frame_chunk

LABELS = ("", "app=a", "app=b", "app!=a", "app", "!app", "app in (a,b)", "app=a,app=b", "x=,app=a")
FIELDS = ("", "metadata.name=p", "spec.nodeName=n", "spec.nodeName=", "spec.nodeName!=n")


class Plain:
    """Tells `kind name revision`; counts how often it was asked."""

    key = "plain"
    is_joinable = True

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


def publish(hub: Hub, event: Event) -> None:
    """As feed does where few follow."""
    if hub.publish(event):
        hub.flush_all()


def test_watchers_of_the_same_thing_share_one_frame() -> None:
    hub, form = Hub(), Plain()
    sinks = [follow(hub, form) for _ in range(50)]
    publish(hub, Event(Revision(5), entry("p", 5), None))
    assert form.frames == 1
    assert [told(s) for s in sinks] == [["ADDED p 5"]] * 50


def test_a_first_event_may_be_told_otherwise_than_the_rest() -> None:
    hub, form = Hub(), First()
    early = follow(hub, form)
    publish(hub, Event(Revision(5), entry("p", 5), None))
    late, other = follow(hub, form), follow(hub, form.later)
    publish(hub, Event(Revision(6), entry("q", 6), None))
    list(hub.bookmark(lambda: 7))
    assert told(early) == ["FIRST ADDED p 5", "ADDED q 6", "BOOKMARK 7"]
    assert told(late) == ["FIRST ADDED q 6", "BOOKMARK 7"]
    assert told(other) == ["ADDED q 6", "BOOKMARK 7"]
    assert (hub.watchers, hub.listening("a")) == (3, 3)


def test_each_is_told_what_concerns_it() -> None:
    hub, form = Hub(), Plain()
    here, elsewhere = follow(hub, form, namespace="a"), follow(hub, form, namespace="b")
    old_node, new_node = (follow(hub, form, field=f"spec.nodeName={n}") for n in ("n1", "n2"))
    web = follow(hub, form, label="app=web")
    publish(hub, Event(Revision(2), entry("p", 2, "n2", app="web"), entry("p", 1, "n1")))
    publish(hub, Event(Revision(3), None, entry("p", 2, "n2", app="web")))
    assert told(here) == ["MODIFIED p 2", "DELETED p 3"]
    assert told(elsewhere) == []
    assert told(old_node) == ["DELETED p 2"]
    assert told(new_node) == ["ADDED p 2", "DELETED p 3"]
    assert told(web) == ["ADDED p 2", "DELETED p 3"]


def test_an_event_that_cannot_be_told_ends_those_watches_only() -> None:
    hub = Hub()
    good, bad = follow(hub, Plain()), follow(hub, Odd(ValueError("no such column")))
    publish(hub, Event(Revision(5), entry("p", 5), None))
    assert told(good) == ["ADDED p 5"]
    assert (good.closed, bad.closed) == (False, True)
    assert hub.watchers == 1


def test_who_is_too_far_behind_is_cut_off() -> None:
    hub, form = Hub(), Plain()
    slow, quick = follow(hub, form), follow(hub, form)
    slow.buffered = MAX_BEHIND + 1
    publish(hub, Event(Revision(5), entry("p", 5), None))
    list(hub.bookmark(lambda: 6))
    assert slow.closed
    assert told(slow) == []
    assert told(quick) == ["ADDED p 5", "BOOKMARK 6"]


def test_selections_that_only_look_alike_are_kept_apart() -> None:
    hub, form = Hub(), Plain()
    first = follow(hub, form, namespace="a|app=web")
    second = follow(hub, form, namespace="a", label="app=web")
    publish(hub, Event(Revision(5), entry("p", 5, app="web"), None))
    assert (told(first), told(second)) == ([], ["ADDED p 5"])


def test_a_version_is_spliced_in_front_of_other_metadata() -> None:
    assert splice(b'{"metadata":{}}', 7) == b'{"metadata":{"resourceVersion":"7"}}'
    assert splice(b'{"metadata":{"name":"a"}}', 70) == b'{"metadata":{"resourceVersion":"70","name":"a"}}'
    found = entry("p", 9)
    assert found.data_at(1234) == found.data.replace(b'"9"', b'"1234"')


def test_events_that_come_together_are_written_at_once() -> None:
    hub, form = Hub(), Plain()
    sinks = [follow(hub, form) for _ in range(3)]
    for number in range(4):
        assert hub.publish(Event(Revision(number), entry("p", number), None))
    assert [told(s) for s in sinks] == [[], [], []]
    assert hub.flush_all() == 3
    assert [told(s) for s in sinks] == [[f"ADDED p {n}" for n in range(4)]] * 3
    assert hub.flush_all() == 0


def test_who_comes_between_a_change_and_its_telling_hears_only_of_later_ones() -> None:
    hub, form = Hub(), Plain()
    first = follow(hub, form)
    hub.publish(Event(Revision(5), entry("p", 5), None))
    second = follow(hub, form)
    hub.publish(Event(Revision(6), entry("p", 6), None))
    hub.flush_all()
    assert (told(first), told(second)) == (["ADDED p 5", "ADDED p 6"], ["ADDED p 6"])


def test_who_leaves_is_told_what_has_happened_until_then() -> None:
    hub, form, sink = Hub(), Plain(), MemorySink()
    watcher = hub.subscribe(selection(), form, sink, bookmarks=False)
    hub.publish(Event(Revision(5), entry("p", 5), None))
    hub.unsubscribe(watcher)
    hub.publish(Event(Revision(6), entry("p", 6), None))
    assert hub.flush_all() == 0
    assert told(sink) == ["ADDED p 5"]


def test_a_bookmark_comes_after_the_events_it_covers() -> None:
    hub, form = Hub(), Plain()
    sink = follow(hub, form)
    hub.publish(Event(Revision(5), entry("p", 5), None))
    assert list(hub.bookmark(lambda: 5)) == [1]
    assert told(sink) == ["ADDED p 5", "BOOKMARK 5"]


def test_bookmarks_for_many_are_written_some_at_a_time_each_with_what_has_come_by_then() -> None:
    hub, form = Hub(), Plain()
    sinks = [follow(hub, form) for _ in range(150)]
    revisions = [5]
    for _ in hub.bookmark(lambda: revisions[-1]):
        revisions.append(revisions[-1] + 1)
        hub.publish(Event(Revision(revisions[-1]), entry("p", revisions[-1]), None))
    hub.flush_all()
    everything = [told(sink) for sink in sinks]
    assert {len(events) for events in everything} == {4}
    for events in everything:
        reached = [int(text.split()[-1]) for text in events]
        assert reached == sorted(reached)
    assert {text for events in everything for text in events if text[0] == "B"} == {f"BOOKMARK {n}" for n in (5, 6, 7)}


def test_many_are_told_some_at_a_time_and_none_again_before_all_were_and_the_hub_has_rested() -> None:
    hub, form = Hub(), Plain()
    sinks = [follow(hub, form) for _ in range(150)]
    for number, expected in ((5, 64), (6, 64), (7, 22)):
        hub.publish(Event(Revision(number), entry("p", number), None))
        assert hub.flush(100.0) == expected
    assert sorted(sink.received.qsize() for sink in sinks) == [1] * 64 + [2] * 64 + [3] * 22
    assert (hub.is_behind, hub.flush(100.0), hub.flush(100.005)) == (True, 0, 0)
    assert 100.005 < hub.due < 100.05
    assert (hub.flush(hub.due), hub.flush(0.0), hub.is_behind) == (64, 64, False)
    assert [told(sink)[-1] for sink in sinks] == ["ADDED p 7"] * 150


def test_a_hub_rests_no_longer_than_until_a_record_is_full() -> None:
    class Long(Plain):
        def frame(self, kind: str, entry: Entry, revision: int) -> bytes:
            return frame_chunk(b"x" * 4000)

    hub, form = Hub(), Long()
    for _ in range(64):
        follow(hub, form)
    hub.publish(Event(Revision(5), entry("p", 5), None))
    assert hub.flush(100.0) == 64
    for number in range(6, 9):
        hub.publish(Event(Revision(number), entry("p", number), None))
        assert (hub.due > 100.0, hub.flush(100.0)) == (True, 0)
    hub.publish(Event(Revision(9), entry("p", 9), None))
    assert hub.flush(100.0) == 64


def test_few_are_told_at_once_each_time() -> None:
    hub, form = Hub(), Plain()
    sinks = [follow(hub, form) for _ in range(16)]
    for number in range(5, 8):
        hub.publish(Event(Revision(number), entry("p", number), None))
        assert hub.flush(100.0) == 16
    assert [len(told(sink)) for sink in sinks] == [3] * 16


def test_who_comes_while_the_last_one_is_cut_off_is_told_all_the_same() -> None:
    hub, form = Hub(), Plain()
    slow = follow(hub, form)
    hub.publish(Event(Revision(5), entry("p", 5), None))
    slow.buffered = MAX_BEHIND + 1
    late = follow(hub, form)
    publish(hub, Event(Revision(6), entry("p", 6), None))
    assert (slow.closed, told(slow), told(late), hub.watchers) == (True, [], ["ADDED p 6"], 1)


def test_a_change_costs_only_those_whom_it_may_concern() -> None:
    class Counted(Selection):
        def told_as(self, event: Event) -> tuple[str, Entry] | None:
            asked.append(self.key)
            return super().told_as(event)

    asked: list[Any] = []
    hub, form = Hub(), Plain()
    wanted = [
        *({"label": f"app=a{n}"} for n in range(30)),
        *({"namespace": f"ns{n}", "label": "app=a1"} for n in range(30)),
        *({"field": f"metadata.name=p{n}"} for n in range(30)),
        *({"namespace": f"ns{n}"} for n in range(30)),
        {"namespace": "a", "label": "app in (a1)"},
        {"label": "app in (a1,a2)"},
        {"label": "app!=a1"},
        {"field": "spec.nodeName="},
    ]
    for each in wanted:
        plain = selection(**each)
        counted = Counted(plain.namespace, plain.label_selector, plain.field_selector, plain.key)
        hub.subscribe(counted, form, MemorySink(), bookmarks=False)
    hub.publish(Event(Revision(2), entry("p7", 2, app="a1"), entry("p7", 1, "n1", app="a2")))
    assert sorted(key[1:] for key in asked) == sorted(
        [
            ("app=a1", ""),
            ("app=a2", ""),
            ("app in (a1)", ""),
            ("app in (a1,a2)", ""),
            ("app!=a1", ""),
            ("", "metadata.name=p7"),
            ("", "spec.nodeName="),
        ]
    )


@given(
    st.lists(
        st.sampled_from(["", "app=a", "app=b", "app!=a", "app", "!app", "app in (a,b)", "app=a,app=b", "x=,app=a"])
    ),
    st.lists(st.sampled_from(["", "metadata.name=p", "spec.nodeName=n", "spec.nodeName=", "spec.nodeName!=n"])),
    st.lists(st.sampled_from([None, "a", "b"]), min_size=1),
    st.tuples(*[st.fixed_dictionaries({}, optional={k: st.sampled_from(["a", "b", ""]) for k in ("app", "x")})] * 2),
    st.sampled_from(["both", "new", "gone"]),
)
def test_an_index_leaves_out_nobody_who_is_concerned(
    by_label: list[str],
    by_field: list[str],
    namespaces: list[str | None],
    texts: tuple[dict[str, str], dict[str, str]],
    which: str,
) -> None:
    hub, form = Hub(), Plain()
    before = entry("p", 1, "n", **texts[0]) if which != "new" else None
    now = entry("p", 2, "", **texts[1]) if which != "gone" else None
    event = Event(Revision(2), now, before)
    followed = []
    for namespace in namespaces:
        for label in by_label or [""]:
            for field in by_field or [""]:
                sink = follow(hub, form, namespace=namespace, label=label, field=field)
                followed.append((selection(namespace, label, field), sink))
    publish(hub, event)
    for wanted, sink in followed:
        expected = wanted.told_as(event)
        assert told(sink) == ([f"{expected[0]} p 2"] if expected else [])
