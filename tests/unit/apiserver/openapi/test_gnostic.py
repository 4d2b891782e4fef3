"""OpenAPI documents as protobuf: read back by a reader that knows numbers only."""

from __future__ import annotations

import struct
from typing import Any

from kybern.apiserver.openapi import gnostic

Fields = dict[int, list[Any]]


def fields(data: bytes) -> Fields:
    """The fields of a message by number: whole numbers, doubles or bytes."""
    found: Fields = {}
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    while at < len(data):
        key = varint()
        kind = key & 7
        if kind == 0:
            value: Any = varint()
        elif kind == 1:
            (value,) = struct.unpack_from("<d", data, at)
            at += 8
        else:
            assert kind == 2
            size = varint()
            value = data[at : at + size]
            at += size
        found.setdefault(key >> 3, []).append(value)
    return found


def named(items: list[bytes]) -> dict[str, bytes]:
    return {fields(item)[1][0].decode(): fields(item)[2][0] for item in items}


def test_definitions_of_version_2_keep_types_references_and_extensions() -> None:
    gvk = [{"group": "apps", "kind": "Deployment", "version": "v1"}]
    document = {
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": "1.36"},
        "paths": {},
        "definitions": {
            "Deployment": {
                "type": "object",
                "required": ["spec"],
                "properties": {"spec": {"$ref": "#/definitions/Spec"}, "count": {"type": "integer", "minimum": 1}},
                "x-kubernetes-group-version-kind": gvk,
            },
            "Spec": {"type": "object", "additionalProperties": {"type": "string"}, "default": {}},
            "Any": {"type": "object", "additionalProperties": True},
        },
    }
    whole = fields(gnostic.encode(document, 2))
    assert whole[1] == [b"2.0"]
    assert fields(whole[2][0]) == {1: [b"Kubernetes"], 2: [b"1.36"]}
    definitions = named(fields(whole[9][0])[1])
    assert list(definitions) == ["Any", "Deployment", "Spec"]
    deployment = fields(definitions["Deployment"])
    assert fields(deployment[22][0]) == {1: [b"object"]}
    assert deployment[19] == [b"spec"]
    properties = named(fields(deployment[25][0])[1])
    assert fields(properties["spec"]) == {1: [b"#/definitions/Spec"]}
    assert fields(properties["count"])[9] == [1.0]
    extension = named(deployment[31])["x-kubernetes-group-version-kind"]
    assert fields(extension) == {2: [b"- group: apps\n  kind: Deployment\n  version: v1\n"]}
    spec = fields(definitions["Spec"])
    assert fields(spec[5][0]) == {2: [b"{}\n"]}
    assert fields(fields(fields(spec[21][0])[1][0])[22][0]) == {1: [b"string"]}
    assert fields(fields(definitions["Any"])[21][0]) == {2: [1]}


def test_parameters_are_what_their_place_says() -> None:
    body = {"name": "body", "in": "body", "schema": {"$ref": "#/definitions/Spec"}}
    query = {"name": "dryRun", "in": "query", "type": "string", "uniqueItems": True}
    path = {"name": "name", "in": "path", "type": "string", "required": True}
    operation = {
        "parameters": [body, query, path, {"$ref": "#/parameters/a"}],
        "responses": {"200": {"description": "OK"}},
    }
    whole = fields(gnostic.encode({"swagger": "2.0", "paths": {"/a": {"get": operation}}}, 2))
    got = fields(fields(named(fields(whole[8][0])[2])["/a"])[2][0])
    parameters = [fields(one) for one in got[8]]
    assert [next(iter(one)) for one in parameters] == [1, 1, 1, 2]
    kinds = [next(iter(fields(one[1][0]))) for one in parameters[:3]]
    assert kinds == [1, 2, 2]
    places = [next(iter(fields(fields(one[1][0])[2][0]))) for one in parameters[1:3]]
    assert places == [3, 4]
    assert fields(fields(named(fields(got[9][0])[1])["200"])[1][0]) == {1: [b"OK"]}


def test_version_3_says_of_each_schema_whether_it_is_elsewhere() -> None:
    document = {
        "openapi": "3.0.0",
        "components": {
            "schemas": {
                "A": {"allOf": [{"$ref": "#/components/schemas/B"}], "default": ""},
                "B": {"type": "boolean", "default": False, "nullable": True},
            }
        },
    }
    whole = fields(gnostic.encode(document, 3))
    schemas = named(fields(fields(whole[5][0])[1][0])[1])
    a = fields(fields(schemas["A"])[1][0])
    assert fields(fields(a[26][0])[2][0]) == {1: [b"#/components/schemas/B"]}
    assert fields(a[33][0]) == {3: [b""]}  # said, though empty: it is one of several
    b = fields(fields(schemas["B"])[1][0])
    assert (b[1], b[25], fields(b[33][0])) == ([1], [b"boolean"], {2: [0]})


def test_what_the_messages_have_no_place_for_is_left_out() -> None:
    odd = {"type": ["string", "null"], "const": 1, "minimum": "no number", "title": 7, "properties": []}
    whole = fields(gnostic.encode({"swagger": "2.0", "definitions": {"Odd": odd}, "unknown": 1}, 2))
    schema = fields(named(fields(whole[9][0])[1])["Odd"])
    assert fields(schema[22][0]) == {1: [b"string", b"null"]}
    assert set(schema) == {22, 25}
