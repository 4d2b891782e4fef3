from __future__ import annotations

import pytest

from kybern.api import codec
from kybern.api.core_v1 import Event, Pod
from kybern.api.part import part_of


def test_only_the_fields_on_the_paths_are_decoded() -> None:
    part = part_of(Pod, ("metadata.name", "spec.nodeName", "status.podIPs.ip"))
    value = (
        b'{"kind":"Pod","metadata":{"name":"a","uid":"u"},"spec":{"nodeName":"n","containers":"no list"},'
        b'"status":{"podIPs":[{"ip":"1.2.3.4","other":1}]}}'
    )
    found = codec.to_json(codec.decode(part, value))
    assert found == {
        "metadata": {"name": "a"},
        "spec": {"nodeName": "n"},
        "status": {"podIPs": [{"ip": "1.2.3.4"}]},
    }


def test_what_is_absent_is_as_in_the_whole_struct() -> None:
    found = codec.decode(part_of(Pod, ("metadata.labels", "status.phase", "spec.hostNetwork")), b"{}")
    whole = codec.decode(Pod, b"{}")
    assert found.metadata.labels == whole.metadata.labels == {}
    assert found.status.phase == whole.status.phase
    assert found.spec.hostNetwork == whole.spec.hostNetwork


def test_a_struct_may_be_taken_whole() -> None:
    found = codec.decode(part_of(Event, ("involvedObject",)), b'{"involvedObject":{"kind":"Pod","name":"a"}}')
    assert (found.involvedObject.kind, found.involvedObject.name, found.involvedObject.uid) == ("Pod", "a", None)


def test_a_path_that_is_not_there_is_an_error() -> None:
    for path in ("spec.nodeNam", "spec.nodeName.deeper"):
        with pytest.raises(AttributeError):
            part_of(Pod, (path,))
