from __future__ import annotations

import random
from typing import Any

import pytest

from kybern.api import codec
from kybern.api.core_v1 import ConfigMap, Pod
from kybern.api.resource import Resource
from kybern.apiserver.registry import strategies
from kybern.apiserver.registry.extract import Extract
from kybern.apiserver.registry.object_codec import struct_codec
from kybern.apiserver.registry.registry import VIRTUAL, Objects
from kybern.apiserver.registry.strategy import Context, Strategy
from kybern.machinery import scheme
from kybern.testing.clock import FakeClock

KINDS = [resource for resource in scheme.RESOURCES if resource.group_resource not in VIRTUAL]


def strategy_of(resource: Resource) -> Strategy:
    objects = Objects()
    context = Context(objects, objects, FakeClock(), random.Random(1))
    return strategies.STRATEGIES.get(resource.group_resource, Strategy)(context, resource)


def filled(kind: type[Any], strategy: Strategy) -> Any:
    """An object with a text, number or truth in everything that is selected from."""
    obj = kind()
    obj.metadata.name, obj.metadata.namespace, obj.metadata.labels = "name", "space", {"a": "b"}
    for path in strategy.selected_from:
        *way, last = path.split(".")
        holder = obj
        for step in way:
            holder = getattr(holder, step)
        for value in (f"is {path}", 7, True):
            text = codec.encode({last: value})
            try:
                found = getattr(codec.decode(type(holder), text), last)
            except ValueError:
                continue
            setattr(holder, last, found)
            break
    return obj


@pytest.mark.parametrize("resource", KINDS, ids=lambda r: f"{r.group_resource}/{r.version}")
def test_a_part_of_an_object_tells_all_that_selectors_ask_for(resource: Resource) -> None:
    strategy = strategy_of(resource)
    struct = scheme.struct_of(resource.api_version, resource.kind)
    assert struct is not None
    extract = Extract(struct_codec(resource, struct), strategy)
    for obj in (struct(), filled(struct, strategy)):
        assert extract(codec.encode(obj)) == (obj.metadata.labels, strategy.selectable_fields(obj))


def extract_of(kind: type[Any], plural: str) -> Extract:
    resource = next(r for r in scheme.RESOURCES if r.plural == plural and not r.group)
    return Extract(struct_codec(resource, kind), strategy_of(resource))


def test_the_first_address_of_a_pod_is_selectable() -> None:
    value = b'{"metadata":{"name":"a"},"status":{"podIP":"1.1.1.1","podIPs":[{"ip":"1.1.1.1"},{"ip":"::1"}]}}'
    assert extract_of(Pod, "pods")(value)[1]["status.podIP"] == "1.1.1.1"


def test_nulls_of_another_server_are_absent() -> None:
    found = extract_of(Pod, "pods")(b'{"metadata":{"name":"a","labels":null},"spec":{"nodeName":"n"},"status":null}')
    assert found[0] == {}
    assert found[1]["spec.nodeName"] == "n"


def test_selectors_see_nothing_in_what_is_no_object() -> None:
    assert extract_of(ConfigMap, "configmaps")(b'{"metadata":7}') == ({}, {})
