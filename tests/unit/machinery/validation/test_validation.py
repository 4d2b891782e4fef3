"""Validation, against what a v1.36 API server answered to the same writes (recorded*.jsonl)."""

from __future__ import annotations

import json
import pathlib
import re
from typing import Any

import pytest

from kybern.api import codec
from kybern.machinery import defaults, scheme, validation
from kybern.machinery.status import FieldError
from kybern.machinery.validation import pods

HERE = pathlib.Path(__file__).parent
CASES = [json.loads(line) for file in sorted(HERE.glob("recorded*.jsonl")) for line in file.read_text().splitlines()]

# Where upstream prints a struct of its own (Go field names) or a diff, only what frames it is compared.
_STRUCT = re.compile(r'Invalid value: (\{.*\}|\[.*(?:\]|\.\.\.)|null|"null"): ', re.DOTALL)


def comparable(errors: list[Any]) -> list[tuple[str, str, str]]:
    found = set()
    for reason, field, message in errors:
        if reason == "InternalError":  # upstream stumbling over what it has refused already
            continue
        message = _STRUCT.sub("Invalid value: ...: ", message).split("\n")[0]
        found.add((reason, field, message))
    return sorted(found)


def decoded(value: dict[str, Any]) -> Any:
    struct = scheme.struct_of(value["apiVersion"], value["kind"])
    assert struct is not None
    obj, _ = codec.from_json(struct, value)
    return obj


def validate(case: dict[str, Any]) -> list[FieldError]:
    obj = decoded(case["sent"])
    subresource = case["path"].rpartition("/")[2]
    namespace = re.search(r"/namespaces/([^/]+)/", case["path"])
    if namespace and not obj.metadata.namespace:
        obj.metadata.namespace = namespace[1]
    if not obj.metadata.name and obj.metadata.generateName:
        obj.metadata.name = obj.metadata.generateName + "x"
    if case["verb"] == "create":
        defaults.apply(obj)
        return validation.validate_create(obj)
    old = decoded(case["old"])
    for field in ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds"):
        if getattr(obj.metadata, field) in (None, ""):
            setattr(obj.metadata, field, getattr(old.metadata, field))
    defaults.apply(obj)
    if subresource == "status":
        for field in obj.__struct_fields__:
            if field not in ("metadata", "status"):
                setattr(obj, field, getattr(old, field))
        return validation.validate_status_update(obj, old)
    if subresource == "ephemeralcontainers":
        added = obj.spec.ephemeralContainers
        obj.spec = codec.clone(old.spec)
        obj.spec.ephemeralContainers = added
        return pods.validate_subresource(obj, old, subresource)
    if subresource == "resize":
        merged = codec.clone(old.spec)
        for container, wanted in zip(merged.containers, obj.spec.containers, strict=True):
            container.resources = wanted.resources
        obj.spec = merged
        return pods.validate_subresource(obj, old, subresource)
    if hasattr(obj, "status"):
        obj.status = old.status
    return validation.validate_update(obj, old)


@pytest.mark.parametrize("case", CASES, ids=[f"{i}-{c['name'].replace(' ', '-')}" for i, c in enumerate(CASES)])
def test_a_write_is_judged_as_upstream_judges_it(case: dict[str, Any]) -> None:
    errors = [(e.reason, e.field, e.message) for e in validate(case)]
    assert comparable(errors) == comparable(case["errors"])
