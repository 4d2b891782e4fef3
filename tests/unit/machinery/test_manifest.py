from __future__ import annotations

import time
from typing import Any

import pytest

from kybern.machinery import manifest


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("# only a comment", None),
        ("a: 1", {"a": 1}),
        ("a: '1'\nb: !!str 1\nc: !!int 1", {"a": "1", "b": "1", "c": 1}),
        ("a: yes\nb: off\nc: True\nd: n", {"a": True, "b": False, "c": True, "d": False}),
        ("a: ~\nb: null\nc:", {"a": None, "b": None, "c": None}),
        ("a: 2020-01-01\nb: 2020-01-01T00:00:00Z", {"a": "2020-01-01", "b": "2020-01-01T00:00:00Z"}),
        ("a: 0x1F\nb: 0o17\nc: 017\nd: 1_000\ne: 0b11", {"a": 31, "b": 15, "c": 15, "d": 1000, "e": 3}),
        ("a: 1.5\nb: 1e3\nc: .5\nd: 1.0", {"a": 1.5, "b": 1000.0, "c": 0.5, "d": 1}),
        ("a: 1.2.3\nb: 12:30:45\nc: 1Gi\nd: +", {"a": "1.2.3", "b": "12:30:45", "c": "1Gi", "d": "+"}),
        ("1: a\ntrue: b\n1.5: c", {"1": "a", "true": "b", "1.5": "c"}),
        ("a: &x {b: 1}\nc: *x", {"a": {"b": 1}, "c": {"b": 1}}),
        ("a: 0x_\nb: 0b\nc: 09", {"a": "0x_", "b": "0b", "c": 9}),
        ("base: &x {a: 1, b: 2}\nmine:\n  <<: *x\n  b: 3", {"base": {"a": 1, "b": 2}, "mine": {"a": 1, "b": 3}}),
        ("a: |\n  x\n  y\nb: >-\n  x\n  y", {"a": "x\ny\n", "b": "x y"}),
        ('{"a": [1, "b", null, true]}', {"a": [1, "b", None, True]}),
        ("a: " + "9" * 300, {"a": float("9" * 300)}),
    ],
)
def test_yaml_means(text: str, value: Any) -> None:
    assert manifest.parse_yaml(text) == value


def test_repeated_keys_are_told_with_their_lines() -> None:
    duplicates: list[manifest.Repeated] = []
    value = manifest.parse_yaml("a: {b: 1, b: 2}\nc: [{d: 1, d: 2}]\na: 3", duplicates)
    assert value == {"a": 3, "c": [{"d": 2}]}
    assert duplicates == [(1, "b"), (2, "d"), (3, "a")]
    assert str(duplicates[0]) == 'line 1: key "b" already set in map'


def test_documents_of_a_stream() -> None:
    assert manifest.parse_yaml_documents("a: 1\n---\n---\n# nothing\n---\nb: 2\n...\n") == [{"a": 1}, {"b": 2}]


def bomb(width: int, depth: int) -> str:
    lines = ["a0: &a0 [" + ",".join(["x"] * width) + "]"]
    lines += [f"a{n}: &a{n} [" + ",".join([f"*a{n - 1}"] * width) + "]" for n in range(1, depth)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        "a: [", "a: 'b", "a:\n\tb: 1", "a: *b", "a: &a [*a]", "? [a]\n: b", "~: a", "a: .inf", "a: .NaN", "a: -.inf",
        "a: !mine b", "<<: 5", "a: 1e999", "a: \x00", "a: 1\n---\nb: 2", bomb(9, 9), bomb(2, 30),
        "a: " + "[" * 3000 + "]" * 3000,
    ],
)  # fmt: skip
def test_what_is_no_manifest_is_refused_soon(text: str) -> None:
    began = time.process_time()
    with pytest.raises(manifest.ManifestError):
        manifest.parse_yaml(text)
    assert time.process_time() - began < 1.0


def test_bytes_that_are_no_text_are_refused() -> None:
    for data in (b"a: \xff\xfe", b"\xff\xfea", b"a: \xed\xa0\x80"):
        with pytest.raises(manifest.ManifestError):
            manifest.parse_yaml(data)
