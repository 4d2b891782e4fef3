"""Bombs in protobuf: depth, lengths, masses of fields, wrong types. Each is answered soon, and never with a 500."""

from __future__ import annotations

import pytest

from kybern.api import protobuf
from kybern.testing import api_server
from kybern.testing.api_server import Answer, Api

pytestmark = pytest.mark.thorough

MANY = 3 * 1024 * 1024 - 200  # as large as a body may be
SECONDS = 8.0  # of processor time; idle, all of these take less than a second or two
CONFIGS = "/api/v1/namespaces/default/configmaps"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def part(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def number_of(message: str, field: str) -> int:
    return next(number for number, known in protobuf.layout(message).items() if known.name == field)


def envelope(kind: str, api_version: str, raw: bytes) -> bytes:
    return protobuf.MAGIC + part(1, part(1, api_version.encode()) + part(2, kind.encode())) + part(2, raw)


def config(raw: bytes, name: str = "a") -> bytes:
    meta = part(1, name.encode())
    return envelope("ConfigMap", "v1", part(1, meta) + raw)


def in_meta(data: bytes) -> bytes:
    return envelope("ConfigMap", "v1", part(1, part(1, b"a") + data))


def nested(depth: int) -> bytes:
    """A definition with a schema under `not` under `not`, and so on."""
    of = "apiextensions_v1.JSONSchemaProps"
    inner, number = b"", number_of(of, "not")
    for _ in range(depth):
        inner = part(number, inner)
    validation = part(number_of("apiextensions_v1.CustomResourceValidation", "openAPIV3Schema"), inner)
    version = part(number_of("apiextensions_v1.CustomResourceDefinitionVersion", "schema"), validation)
    spec = part(number_of("apiextensions_v1.CustomResourceDefinitionSpec", "versions"), version)
    return envelope("CustomResourceDefinition", "apiextensions.k8s.io/v1", part(1, part(1, b"a.b.c")) + part(2, spec))


def with_double(data: bytes) -> bytes:
    schema = part(number_of("apiextensions_v1.JSONSchemaProps", "maximum"), data)
    validation = part(number_of("apiextensions_v1.CustomResourceValidation", "openAPIV3Schema"), schema)
    version = part(number_of("apiextensions_v1.CustomResourceDefinitionVersion", "schema"), validation)
    spec = part(number_of("apiextensions_v1.CustomResourceDefinitionSpec", "versions"), version)
    return envelope("CustomResourceDefinition", "apiextensions.k8s.io/v1", part(1, part(1, b"a.b.c")) + part(2, spec))


FINALIZERS = number_of("meta_v1.ObjectMeta", "finalizers")
OWNERS = number_of("meta_v1.ObjectMeta", "ownerReferences")
MANAGED = number_of("meta_v1.ObjectMeta", "managedFields")
LABELS = number_of("meta_v1.ObjectMeta", "labels")
GENERATION = number_of("meta_v1.ObjectMeta", "generation")
MADE = number_of("meta_v1.ObjectMeta", "creationTimestamp")
# What is sent, where, and how it is answered.
BOMBS: dict[str, tuple[str, bytes, int]] = {
    "schemas fifty thousand deep": (DEFINITIONS, nested(50_000), 400),
    "schemas just too deep": (DEFINITIONS, nested(101), 400),
    "a length of eight exabytes": (CONFIGS, config(varint(2 << 3 | 2) + varint(2**63 - 1)), 400),
    "a length that wraps around": (CONFIGS, config(varint(2 << 3 | 2) + varint(2**64 - 1) + b"a"), 400),
    "a length beyond the end": (CONFIGS, config(varint(2 << 3 | 2) + varint(5) + b"abcd"), 400),
    "a varint without end": (CONFIGS, config(b"\x80" * 100_000), 400),
    "a varint of eleven bytes": (CONFIGS, in_meta(varint(GENERATION << 3) + b"\xff" * 10 + b"\x01"), 400),
    "groups": (CONFIGS, config(b"\x13" * 500_000 + b"\x14" * 500_000), 400),
    "wire types that there are not": (CONFIGS, config(b"\x16\x17"), 400),
    "a third of a million finalizers": (CONFIGS, in_meta(part(FINALIZERS, b"") * 300_000), 422),
    "a million owners": (CONFIGS, in_meta(part(OWNERS, b"") * 300_000), 422),
    "a million managers": (CONFIGS, in_meta(part(MANAGED, b"") * 300_000), 201),
    "a million labels without a name": (CONFIGS, in_meta(part(LABELS, b"") * 500_000), 422),
    "a name sent a million times": (CONFIGS, in_meta(part(1, b"b") * (MANY // 4)), 201),
    "a million fields that nobody knows": (CONFIGS, config((varint(1999 << 3) + b"\x01") * (MANY // 4)), 201),
    "a field that nobody knows, of megabytes": (CONFIGS, config(part(77, b"x" * (MANY - 100))), 201),
    "the metadata a hundred thousand times": (CONFIGS, config(part(1, part(1, b"c")) * 100_000), 201),
    "a text where a message belongs": (CONFIGS, envelope("ConfigMap", "v1", part(1, b"\xff\xff\xff")), 400),
    "a number where a text belongs": (CONFIGS, in_meta(varint(1 << 3) + b"\x05"), 400),
    "a text that is none": (CONFIGS, in_meta(part(1, b"\xff\xfe")), 400),
    "a double of three bytes": (DEFINITIONS, with_double(b"abc"), 400),
    "a time after the end of time": (CONFIGS, in_meta(part(MADE, varint(1 << 3) + varint(2**62))), 400),
    "an envelope of nothing": (CONFIGS, protobuf.MAGIC, 400),
    "no envelope": (CONFIGS, b"\x0a\x03abc", 400),
    "an envelope in an envelope": (CONFIGS, envelope("ConfigMap", "v1", config(b"")), 400),
}


def send(target: str, body: bytes) -> Answer:
    async def scenario(api: Api) -> Answer:
        return await api.request("POST", target, body, {"content-type": protobuf.CONTENT_TYPE})

    return api_server.run(scenario)


@pytest.mark.parametrize("name", BOMBS)
def test_a_protobuf_bomb_is_answered_soon_and_rightly(name: str) -> None:
    target, body, status = BOMBS[name]
    assert len(body) < 3 * 1024 * 1024
    answer = send(target, body)
    assert answer.status == status, answer.body[:500]
    assert answer.seconds < SECONDS
