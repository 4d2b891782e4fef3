"""Field selectors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kybern.machinery import fields


@pytest.mark.parametrize(
    ("text", "requirements"),
    [
        ("metadata.name=a", (("metadata.name", "=", "a"),)),
        ("metadata.name==a", (("metadata.name", "=", "a"),)),
        ("metadata.name!=a", (("metadata.name", "!=", "a"),)),
        ("a=,b!=", (("a", "=", ""), ("b", "!=", ""))),
        ("a=b,", (("a", "=", "b"),)),
        (r"a=b\,c\=d\\", (("a", "=", r"b,c=d" + "\\"),)),
        ("", ()),
        ("=b", (("", "=", "b"),)),
    ],
)
def test_terms_are_read(text: str, requirements: object) -> None:
    assert fields.parse_selector(text).requirements == requirements


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("metadata.name", "invalid selector: 'metadata.name'; can't understand 'metadata.name'"),
        ("metadata.name=a,b", "invalid selector: 'metadata.name=a,b'; can't understand 'b'"),
        (r"a=b\b", r"invalid field selector: invalid escape sequence: \b"),
        ("a=b\\", "invalid field selector: invalid escape sequence: \\"),
        ("a=b=c", "invalid field selector: unescaped character in value: 61"),
        ("a in (b)", "invalid selector: 'a in (b)'; can't understand 'a in (b)'"),
    ],
)
def test_a_bad_selector_is_refused_with_upstreams_words(text: str, fault: str) -> None:
    with pytest.raises(ValueError) as caught:
        fields.parse_selector(text)
    assert str(caught.value) == fault


def test_an_absent_field_is_an_empty_one() -> None:
    found = {"spec.nodeName": "n1", "status.phase": "Running"}
    assert fields.parse_selector("spec.nodeName=n1,status.phase!=Failed").matches(found)
    assert fields.parse_selector("spec.other=").matches(found)
    assert not fields.parse_selector("spec.other!=").matches(found)
    assert not fields.parse_selector("spec.nodeName=").matches(found)
    assert fields.parse_selector("").matches(found)


def test_the_one_value_a_field_must_have_is_known() -> None:
    selector = fields.parse_selector("metadata.name=x,status.phase!=y")
    assert selector.exact("metadata.name") == "x"
    assert selector.exact("status.phase") is None


@given(
    st.lists(
        st.tuples(st.from_regex(r"[a-z.]{1,6}", fullmatch=True), st.sampled_from(["=", "!="]), st.text(max_size=6))
    )
)
def test_a_selector_survives_its_text(requirements: list[tuple[str, str, str]]) -> None:
    selector = fields.FieldSelector(tuple(requirements))  # type: ignore[arg-type]
    assert fields.parse_selector(str(selector)) == selector
