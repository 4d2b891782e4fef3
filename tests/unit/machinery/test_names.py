"""Rules of names. Source: "Object Names and IDs", "Labels and Selectors"; the words are the API server's."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kybern.machinery import names
from kybern.machinery.validation.rules import Check

LONG = "x" * 254


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (names.check_label, ["a", "a-b", "0", "x" * 63], ["", "A", "-a", "a-", "a.b", "a_b", "x" * 64, "é"]),
        (names.check_subdomain, ["a", "a.b-c.0", "x" * 253], ["", ".", "a..b", "A.b", "a.-b", LONG]),
        (names.check_label_1035, ["a", "a-1"], ["", "1a", "A", "a.b", "x" * 64]),
        (names.check_wildcard_subdomain, ["*.a", "*.a.b"], ["*", "a.b", "*.", "a.*.b", "*.A"]),
        (
            names.check_qualified,
            ["a", "A_b.c-1", "example.com/A", "x" * 63],
            ["", "/a", "a/", "a/b/c", "-a", "A/b", LONG + "/b", "x" * 64, "a b"],
        ),
        (names.check_label_value, ["", "a", "A_b.c-1", "x" * 63], ["-", "a b", ".a", "x" * 64, "a/b"]),
        (names.check_env_name, ["a", "a b", "1", ".", "a-b"], ["", "a=b", "é", "\t"]),
        (names.check_config_key, ["a", "A_b.c-1", ".a", "a.."], ["", ".", "..", "..a", "a b", "a/b", LONG]),
        (names.check_c_identifier, ["a", "_A1"], ["", "1a", "a-b"]),
        (names.check_path_segment, ["a", "A:b", ""], [".", "..", "a/b", "a%b"]),
        (names.check_port_name, ["a", "http-1", "x" * 15], ["", "A", "1", "a--b", "-a", "a-", "x" * 16, "a_b"]),
    ],
)
def test_each_rule_tells_good_from_bad(check: Check, good: list[str], bad: list[str]) -> None:
    assert {text: check(text) for text in good if check(text)} == {}
    assert [text for text in bad if not check(text)] == []


def test_faults_are_told_in_upstreams_words() -> None:
    assert names.check_label("a.b") == ("must not contain dots",)
    assert names.check_label("x" * 64) == ("must be no more than 63 characters",)
    assert names.check_subdomain(LONG) == ("must be no more than 253 characters",)
    assert names.check_qualified("/b") == ("prefix part must be non-empty",)
    assert names.check_qualified("x" * 64) == ("name part must be no more than 63 bytes",)
    assert names.check_label_value("x" * 64) == ("must be no more than 63 bytes",)
    assert names.check_port_name("-") == (
        "must contain at least one letter (a-z)",
        "must not begin or end with a hyphen",
    )
    assert names.check_config_key("..a") == ("must not start with '..'",)
    assert names.check_subdomain("A")[0].startswith("a lowercase RFC 1123 subdomain must consist of lower case")


def test_lengths_are_bytes() -> None:
    assert "name part must be no more than 63 bytes" in names.check_qualified("é" * 32)


def test_a_generated_name_is_the_prefix_and_five_letters() -> None:
    first = names.generate("web-", random.Random(1))
    assert first.startswith("web-")
    assert len(first) == len("web-") + 5
    assert set(first.removeprefix("web-")) <= set("bcdfghjklmnpqrstvwxz2456789")
    assert names.generate("web-", random.Random(1)) == first
    assert names.generate("web-", random.Random(2)) != first


def test_a_long_prefix_is_cut_so_that_the_name_fits_a_label() -> None:
    assert len(names.generate("x" * 200, random.Random(1))) == 63


def test_the_last_dash_of_a_prefix_is_no_fault() -> None:
    assert not names.check_label(names.mask_trailing_dash("web-"))
    assert names.check_label(names.mask_trailing_dash("-"))
    assert names.check_label(names.mask_trailing_dash("web_"))


@given(st.text(max_size=80))
def test_any_text_has_a_verdict(text: str) -> None:
    for check in (
        names.check_label, names.check_subdomain, names.check_label_1035, names.check_qualified,
        names.check_label_value, names.check_env_name, names.check_config_key, names.check_port_name,
    ):  # fmt: skip
        assert all(isinstance(message, str) for message in check(text))


@given(st.from_regex(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True))
def test_a_label_is_a_subdomain_and_a_qualified_name(text: str) -> None:
    assert not names.check_label(text)
    assert not names.check_subdomain(text)
    assert not names.check_qualified(text)
    assert not names.check_label_value(text)
