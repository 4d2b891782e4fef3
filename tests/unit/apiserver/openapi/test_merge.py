"""OpenAPI v2 documents of several servers in one."""

from __future__ import annotations

from typing import Any

import pytest

from kybern.apiserver.openapi import merge

PATH = "/apis/g/v1"


def path_to(name: str) -> dict[str, Any]:
    return {"get": {"responses": {"200": {"schema": {"$ref": f"#/definitions/{name}"}}}}}


def theirs() -> dict[str, Any]:
    return {
        "paths": {f"{PATH}/": path_to("A"), f"{PATH}/as": path_to("A"), "/apis/g/v10/x": path_to("Z"), "/healthz": {}},
        "definitions": {
            "A": {"properties": {"metadata": {"$ref": "#/definitions/Meta"}, "self": {"$ref": "#/definitions/A"}}},
            "Meta": {"type": "object"},
            "Z": {"type": "string"},
        },
    }


def test_only_paths_of_the_group_version_count_and_what_they_need() -> None:
    part = merge.part_of(theirs(), PATH)
    assert sorted(part["paths"]) == [f"{PATH}/", f"{PATH}/as"]
    assert sorted(part["definitions"]) == ["A", "Meta"]


def test_equal_definitions_are_shared() -> None:
    own: dict[str, Any] = {"paths": {"/api": {}}, "definitions": {"Meta": {"type": "object"}}}
    merge.merge(own, [merge.part_of(theirs(), PATH)])
    assert sorted(own["definitions"]) == ["A", "Meta"]
    assert own["paths"][f"{PATH}/as"] == path_to("A")


def test_definitions_that_differ_get_another_name_everywhere() -> None:
    own: dict[str, Any] = {"paths": {}, "definitions": {"A": {"type": "string"}, "Meta": {"x": 1}, "A_v2": {}}}
    merge.merge(own, [merge.part_of(theirs(), PATH)])
    assert own["definitions"]["A"] == {"type": "string"}
    changed = own["definitions"]["A_v3"]["properties"]
    assert changed == {"metadata": {"$ref": "#/definitions/Meta_v2"}, "self": {"$ref": "#/definitions/A_v3"}}
    assert own["paths"][f"{PATH}/as"] == path_to("A_v3")


def test_own_paths_are_never_replaced() -> None:
    own: dict[str, Any] = {"paths": {f"{PATH}/as": {"mine": {}}}, "definitions": {}}
    merge.merge(own, [merge.part_of(theirs(), PATH)])
    assert own["paths"][f"{PATH}/as"] == {"mine": {}}


@pytest.mark.parametrize("nonsense", [None, [], {}, {"paths": []}, {"paths": None}])
def test_what_is_no_document_is_refused(nonsense: Any) -> None:
    with pytest.raises(ValueError, match="not an OpenAPI v2 document"):
        merge.part_of(nonsense, PATH)


def test_documents_nested_without_end_are_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(1000):
        deep = {"x": deep}
    with pytest.raises(ValueError, match="too deeply"):
        merge.part_of({"paths": {PATH: deep}, "definitions": {}}, PATH)
