"""Label selectors: the text form against what a v1.36 API server says, the object form, and matching."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kybern.api.meta_v1 import LabelSelector, LabelSelectorRequirement
from kybern.machinery import labels, names

NAME_RULE = names.check_qualified("-")[0]
VALUE_RULE = names.check_label_value("-")[0]
KEY_RULE = names.check_qualified("a/b/c")[0]
NOT_A_NUMBER = "for 'Gt', 'Lt' operators, the value must be an integer"
FAULT = "unable to parse requirement: "


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a in (b", FAULT + "found '', expected: ',' or ')'"),
        ("a<x", FAULT + f'values[0]: Invalid value: "x": {NOT_A_NUMBER}'),
        ("a > 1.5", FAULT + f'values[0]: Invalid value: "1.5": {NOT_A_NUMBER}'),
        ("a=b,", "found '', expected: identifier after ','"),
        ("a=b,,c", "found ',', expected: identifier after ','"),
        (",a", "found ',', expected: !, identifier, or 'end of string'"),
        ("-a=b", FAULT + f'<nil>: Invalid value: "-a": {NAME_RULE}'),
        ("a=-b", FAULT + f'values[0][a]: Invalid value: "-b": {VALUE_RULE}'),
        ("a/b/c=d", FAULT + f'<nil>: Invalid value: "a/b/c": {KEY_RULE}'),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ("a in b", FAULT + "found 'b' expected: '('"),
        ("a=(b)", FAULT + "found '(', expected: identifier"),
        ("!a=b", "found '=', expected: ',' or 'end of string'"),
        ("a>", FAULT + f'values[0]: Invalid value: "": {NOT_A_NUMBER}'),
        ("=x", "found '=', expected: !, identifier, or 'end of string'"),
        ("()", "found '(', expected: !, identifier, or 'end of string'"),
        ("a in (a b)", FAULT + "found 'b', expected: ',' or ')'"),
        ("a=b=c", "found '=', expected: ',' or 'end of string'"),
        ("a!b", FAULT + "found '!', expected: in, notin, =, ==, !=, gt, lt"),
        ("notin (x)", FAULT + "found '(', expected: in, notin, =, ==, !=, gt, lt"),
        ("x" * 64 + "=b", FAULT + f'<nil>: Invalid value: "{"x" * 64}": name part must be no more than 63 bytes'),
        ("a=" + "x" * 64, FAULT + f'values[0][a]: Invalid value: "{"x" * 64}": must be no more than 63 bytes'),
    ],
)
def test_a_bad_selector_is_refused_with_upstreams_words(text: str, fault: str) -> None:
    with pytest.raises(ValueError) as caught:
        labels.parse_selector(text)
    assert str(caught.value) == fault


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("a=b", "a=b"),
        ("a==b", "a=b"),
        (" a = b , c ", "a=b,c"),
        ("a!=b", "a!=b"),
        ("a in (c,b,c)", "a in (b,c)"),
        ("a in()", "a in ()"),
        ("a notin (x,)", "a notin (,x)"),
        ("! a", "!a"),
        ("x in (a),y", "x in (a),y"),
        ("in", "in"),
        ("in=in", "in=in"),
        ("a in (in,notin)", "a in (in,notin)"),
        ("a=,b", "a=,b"),
        ("b,a", "a,b"),
        ("a>1,a<3", "a>1,a<3"),
        ("", ""),
        (" ", ""),
        ("example.com/x=y", "example.com/x=y"),
    ],
)
def test_selectors_have_one_spelling(text: str, canonical: str) -> None:
    selector = labels.parse_selector(text)
    assert str(selector) == canonical
    assert labels.parse_selector(canonical) == selector


@pytest.mark.parametrize(
    ("selector", "found", "is_match"),
    [
        ("a=b", {"a": "b"}, True),
        ("a=b", {"a": "c"}, False),
        ("a=b", {}, False),
        ("a=", {"a": ""}, True),
        ("a=", {}, False),
        ("a!=b", {"a": "b"}, False),
        ("a!=b", {}, True),
        ("a in (b,c)", {"a": "c"}, True),
        ("a notin (b,c)", {"a": "c"}, False),
        ("a notin (b,c)", {}, True),
        ("a", {"a": ""}, True),
        ("a", {"b": ""}, False),
        ("!a", {"b": ""}, True),
        ("!a", {"a": ""}, False),
        ("a>5", {"a": "6"}, True),
        ("a>5", {"a": "5"}, False),
        ("a<5", {"a": "4"}, True),
        ("a>5", {"a": "x"}, False),
        ("a>5", {}, False),
        ("a=b,c!=d,!e", {"a": "b", "c": "x"}, True),
        ("a=b,c!=d,!e", {"a": "b", "c": "x", "e": ""}, False),
        ("", {"anything": "goes"}, True),
    ],
)
def test_selectors_match_by_all_of_their_terms(selector: str, found: dict[str, str], is_match: bool) -> None:
    assert labels.parse_selector(selector).matches(found) is is_match


def test_no_selector_object_matches_nothing_and_an_empty_one_everything() -> None:
    assert not labels.from_label_selector(None).matches({"a": "b"})
    assert not labels.from_label_selector(None).is_empty
    assert labels.from_label_selector(LabelSelector()).matches({})
    assert labels.from_label_selector(LabelSelector()).is_empty


def test_a_selector_object_reads_as_its_text() -> None:
    selector = LabelSelector(
        matchLabels={"b": "2", "a": "1"},
        matchExpressions=[
            LabelSelectorRequirement(key="c", operator="In", values=["y", "x"]),
            LabelSelectorRequirement(key="d", operator="NotIn", values=["z"]),
            LabelSelectorRequirement(key="e", operator="Exists"),
            LabelSelectorRequirement(key="f", operator="DoesNotExist"),
        ],
    )
    assert str(labels.from_label_selector(selector)) == "a=1,b=2,c in (x,y),d notin (z),e,!f"
    with pytest.raises(ValueError, match="not a valid label selector operator"):
        labels.from_label_selector(LabelSelector(matchExpressions=[LabelSelectorRequirement(key="a", operator="Gt")]))


def test_the_one_value_a_key_must_have_is_known() -> None:
    selector = labels.parse_selector("a=1,b in (2),c in (3,4),d!=5")
    assert [selector.exact(key) for key in "abcde"] == ["1", "2", None, None, None]


@given(st.text(alphabet='ab/.-_()!=<>, in\t"\\é', max_size=24))
def test_any_text_is_a_selector_or_a_value_error(text: str) -> None:
    try:
        selector = labels.parse_selector(text)
    except ValueError:
        return
    assert labels.parse_selector(str(selector)) == selector


_KEYS = st.from_regex(r"[a-c]", fullmatch=True)
_VALUES = st.sampled_from(["", "1", "2", "x"])


@given(st.dictionaries(_KEYS, _VALUES), _KEYS, st.lists(_VALUES, min_size=1, max_size=3))
def test_notin_is_the_opposite_of_in(found: dict[str, str], key: str, values: list[str]) -> None:
    joined = ",".join(values)
    inside, outside = labels.parse_selector(f"{key} in ({joined})"), labels.parse_selector(f"{key} notin ({joined})")
    assert inside.matches(found) is not outside.matches(found)
