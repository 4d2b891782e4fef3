from __future__ import annotations

import random

import pytest

from kybern.api.core_v1 import Pod
from kybern.apiserver.registry.object_codec import StructCodec
from kybern.apiserver.watch_cache.cache import ResourceCache
from kybern.apiserver.watch_cache.entry import Entry
from kybern.apiserver.watch_cache.hub import Selection
from kybern.apiserver.watch_cache.indexes import KEPT, Index, Indexes, Of
from kybern.apiserver.watch_cache.select import LOOK_AT, select
from kybern.machinery import fields, labels, scheme
from kybern.storage.interface import Change, Record, Revision

PREFIX = "/registry/pods/"
PODS = next(r for r in scheme.RESOURCES if r.plural == "pods" and not r.group)
SELECTIONS = (
    (None, "app=3", ""),
    (None, "app in (3,5,5,none)", ""),
    (None, "app=none", ""),
    (None, "app=3,tier!=1", ""),
    (None, "!app", ""),
    (None, "tier=1", ""),
    ("even", "app=3", ""),
    ("none", "app=3", ""),
    ("even", "", "spec.nodeName=n7"),
    (None, "app=3", "spec.nodeName=n7"),
    (None, "", "spec.nodeName="),
    (None, "", "spec.nodeName!=n7"),
    (None, "", "metadata.name=pod-0017"),
    ("odd", "", "metadata.name=pod-0017"),
    ("odd", "app=1", "metadata.name=pod-0017"),
)


def record(number: int, revision: int, app: int | None, node: str) -> Record:
    namespace = "odd" if number % 2 else "even"
    found = f'"app":"{app}","tier":"{number % 2}"' if app is not None else ""
    value = f'{{"metadata":{{"name":"pod-{number:04d}","labels":{{{found}}}}},"spec":{{"nodeName":"{node}"}}}}'
    return Record(f"{PREFIX}{namespace}/pod-{number:04d}", value.encode(), Revision(1), Revision(revision))


def index(value: bytes) -> tuple[dict[str, str], dict[str, str]]:
    pod = StructCodec(Pod).decode(value)
    return pod.metadata.labels, {"metadata.name": pod.metadata.name, "spec.nodeName": pod.spec.nodeName or ""}


def filled(count: int) -> ResourceCache:
    cache = ResourceCache(PODS, PREFIX, StructCodec(Pod), index)
    cache.load(record(n, n + 1, n % 20 if n % 10 else None, f"n{n % 15}" if n % 9 else "") for n in range(count))
    return cache


def selection(namespace: str | None, label: str, field: str) -> Selection:
    by_label = labels.parse_selector(label) if label else None
    by_field = fields.parse_selector(field) if field else None
    return Selection(namespace, by_label, by_field, (namespace, label, field))


def looked_for(cache: ResourceCache, wanted: Selection, after: str = "") -> list[str]:
    return [entry.key for entry in cache.entries() if entry.key > after and wanted.matches(entry)]


@pytest.mark.parametrize("count", [LOOK_AT // 2, LOOK_AT * 3])
@pytest.mark.parametrize("wanted", SELECTIONS, ids=str)
def test_what_is_selected_is_what_looking_at_each_finds_in_order(
    count: int, wanted: tuple[str | None, str, str]
) -> None:
    cache = filled(count)
    asked = selection(*wanted)
    for after in ("", f"{PREFIX}even/pod-0040", f"{PREFIX}odd/pod-0100"):
        assert [e.key for e in select(cache, asked, after)] == looked_for(cache, asked, after)


def test_indexes_follow_every_change() -> None:
    cache = filled(LOOK_AT * 2)
    asked = [selection(*wanted) for wanted in SELECTIONS]
    dice = random.Random(7)
    there = {entry.key: int(entry.name[-4:]) for entry in cache.entries()}
    for revision in range(10_000, 10_600):
        number = dice.randrange(LOOK_AT * 3)
        new = record(number, revision, dice.choice((None, 1, 3, 5)), dice.choice(("", "n7", "n8")))
        if new.key in there and dice.random() < 0.3:
            del there[new.key]
            cache.apply(Change(Revision(revision), new.key, None, None))
        else:
            there[new.key] = number
            cache.apply(Change(Revision(revision), new.key, new, None))
        one = asked[revision % len(asked)]
        assert [e.key for e in select(cache, one)] == looked_for(cache, one)


def entries(count: int) -> dict[str, Entry]:
    return {entry.key: entry for entry in filled(count).entries()}


def test_only_so_many_indexes_are_kept() -> None:
    indexes = Indexes(entries(10))
    first = indexes.get(Of.LABEL, "app")
    for number in range(KEPT - 1):
        indexes.get(Of.LABEL, f"label-{number}")
    assert indexes.get(Of.LABEL, "app") is first
    indexes.get(Of.FIELD, "spec.nodeName")
    assert indexes.get(Of.LABEL, "app") is first
    for number in range(KEPT):
        indexes.get(Of.LABEL, f"other-{number}")
    assert indexes.get(Of.LABEL, "app") is not first


def test_a_missing_label_is_not_an_empty_one_and_a_missing_field_is() -> None:
    those = entries(20)
    assert not Index(Of.LABEL, "none", those.values()).find("")
    assert len(Index(Of.FIELD, "none", those.values()).find("")) == len(those)


def test_labels_of_many_objects_are_kept_once() -> None:
    cache = filled(100)
    same = [entry.labels for entry in cache.entries() if entry.labels.get("app") == "3"]
    assert len(same) == 5
    assert all(found is same[0] for found in same)
