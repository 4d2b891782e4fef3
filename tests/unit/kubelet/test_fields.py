"""Fields of a pod as text."""

import pytest

from kybern.api.core_v1 import Pod
from kybern.api.meta_v1 import ObjectMeta
from kybern.kubelet import fields


def test_maps_are_written_sorted_and_quoted_as_go_strings():
    text = fields.format_map({"b": 'say "hi"\n', "a": "x\\y\t", "c": "ü\x00"})
    assert text == 'a="x\\\\y\\t"\nb="say \\"hi\\"\\n"\nc="ü\\x00"'


def test_a_subscript_may_hold_dots_and_slashes_and_a_missing_key_is_empty():
    pod = Pod(metadata=ObjectMeta(annotations={"a.b/c": "v"}))
    assert fields.field_text(pod, "metadata.annotations['a.b/c']", (), (), "n") == "v"
    assert fields.field_text(pod, "metadata.annotations['other']", (), (), "n") == ""


def test_an_unknown_path_is_refused():
    with pytest.raises(ValueError, match=r"spec\.containers"):
        fields.field_text(Pod(), "spec.containers", (), (), "n")
