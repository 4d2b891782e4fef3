from __future__ import annotations

import msgspec
import pytest

from kybern.api import codec, scalars
from kybern.api.apiextensions_v1 import JSONSchemaProps
from kybern.api.core_v1 import EnvVar, Pod, Secret, Volume
from kybern.api.custom import CustomObject


def test_what_was_not_set_is_not_emitted_and_what_is_required_always_is() -> None:
    assert codec.encode(EnvVar()) == b'{"name":""}'
    pod = msgspec.json.decode(codec.encode(Pod()))
    assert pod == {"kind": "Pod", "apiVersion": "v1", "metadata": {}, "spec": {"containers": []}, "status": {}}


def test_an_explicit_null_is_absent_and_unknown_fields_are_told() -> None:
    text = (
        b'{"metadata":{"name":"a","labels":null},"spec":{"containers":null,"volumes":[null],"oops":{"a":1}},"extra":1}'
    )
    pod, unknown = codec.decode_pruned(Pod, text)
    assert unknown == ["spec.oops", "extra"] and pod.metadata.name == "a"
    assert pod.spec.volumes == [Volume(name="")]  # in a list, null is an empty item


def test_the_strict_door_refuses_what_the_pruning_one_forgives() -> None:
    with pytest.raises(msgspec.ValidationError):
        codec.decode(Pod, b'{"spec":{"oops":1}}')


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ("1", "1"), ("1000m", "1"), ("0.5", "500m"), ("1024Mi", "1Gi"), ("1536Mi", "1536Mi"), ("1e3", "1e3"),
        ("100k", "100k"), ("1000k", "1M"), ("0", "0"), ("-1500m", "-1500m"), (".5", "500m"), ("1.5Gi", "1536Mi"),
        ("12e6", "12e6"), ("0.1n", "1n"),
    ],
)  # fmt: skip
def test_quantities_are_canonical_as_upstream_writes_them(given: str, canonical: str) -> None:
    assert scalars.canonical_quantity(given) == canonical


@pytest.mark.parametrize("text", ["", "1 ", "x", "1Q", "1e", "--1", "1.2.3", "٣", "1Kii"])
def test_other_texts_are_no_quantities(text: str) -> None:
    with pytest.raises(ValueError, match="quantities must match"):
        scalars.canonical_quantity(text)


def test_times_are_brought_to_utc_and_to_their_precision() -> None:
    assert scalars.convert_scalar(scalars.Time, "2024-01-02T03:04:05.999+02:00") == "2024-01-02T01:04:05Z"
    early = "2024-01-02T03:04:05.000001+02:00"
    assert scalars.convert_scalar(scalars.MicroTime, early) == "2024-01-02T01:04:05.000001Z"
    with pytest.raises(ValueError, match="six decimals"):  # upstream reads no other form
        scalars.convert_scalar(scalars.MicroTime, "2024-01-02T03:04:05Z")
    with pytest.raises(ValueError, match="parsing time"):
        scalars.convert_scalar(scalars.Time, "2024-13-02T03:04:05Z")


def test_bytes_are_base64_on_the_wire() -> None:
    secret = codec.decode(Secret, b'{"data":{"a":"aGk="}}')
    assert secret.data == {"a": b"hi"} and b'"a":"aGk="' in codec.encode(secret)


def test_a_clone_shares_nothing() -> None:
    pod = codec.decode(Pod, b'{"metadata":{"labels":{"a":"b"}}}')
    copy = codec.clone(pod)
    copy.metadata.labels["a"] = "c"
    assert pod.metadata.labels == {"a": "b"}


def test_a_custom_object_goes_through_bytes_and_back() -> None:
    text = b'{"kind":"Foo","apiVersion":"example.com/v1","metadata":{"name":"a"},"spec":{"b":null,"a":[1]}}'
    obj = codec.decode(CustomObject, text)
    assert (obj.kind, obj.metadata.name, obj.content) == ("Foo", "a", {"spec": {"b": None, "a": [1]}})
    assert codec.encode(obj) == text
    assert codec.clone(obj) == obj
    assert codec.to_json(obj)["metadata"] == {"name": "a"}


def test_null_in_free_form_lists_is_a_value() -> None:
    schema, _ = codec.from_json(JSONSchemaProps, {"enum": ["a", None], "title": None})
    assert schema.enum == ["a", None]
