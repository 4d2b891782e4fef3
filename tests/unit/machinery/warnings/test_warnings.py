"""Warnings, against what a v1.36 API server says of the same objects (recorded.jsonl)."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from kybern.api import codec
from kybern.api.core_v1 import Container, EnvVar, Pod
from kybern.machinery import defaults, scheme, warnings
from kybern.machinery.warnings.versions import DEPRECATED

CASES = [json.loads(line) for line in (pathlib.Path(__file__).parent / "recorded.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("case", CASES, ids=[case["label"] for case in CASES])
def test_an_object_is_warned_of_as_upstream_does(case: dict[str, Any]) -> None:
    struct = scheme.struct_of(case["object"]["apiVersion"], case["object"]["kind"])
    assert struct is not None
    obj, _ = codec.from_json(struct, case["object"])
    defaults.apply(obj)
    # Go walks some maps in no order.
    assert sorted(warnings.of(obj)) == sorted(case["warnings"])


def test_a_change_is_warned_of_what_it_brings_only() -> None:
    twice = [EnvVar(name="A", value="1"), EnvVar(name="A", value="2")]
    old = Pod()
    old.metadata.name = "a"
    old.spec.containers = [Container(name="c", env=twice)]
    new = codec.clone(old)
    assert warnings.of_change(new, old) == []
    new.metadata.annotations = {"container.apparmor.security.beta.kubernetes.io/c": "unconfined"}
    (said,) = warnings.of_change(new, old)
    assert said.startswith("metadata.annotations[container.apparmor.")
    assert len(warnings.of(new)) == 2


def test_kinds_without_rules_are_left_in_peace() -> None:
    assert warnings.of({"kind": "Thing"}) == []
    assert warnings.of_change({"kind": "Thing"}, {}) == []


def test_every_deprecated_version_is_one_that_exists() -> None:
    for group, version, plural in DEPRECATED:
        assert scheme.resource_for(group, version, plural) is not None
