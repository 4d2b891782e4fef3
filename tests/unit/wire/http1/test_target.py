"""Targets: what is decoded, what is kept, what is refused."""

from __future__ import annotations

import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kybern.wire.http1.target import BadTarget, parse_query, split_target

TEXT = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)))


@given(TEXT.filter(lambda text: "/" not in text))
def test_one_encoded_segment_stays_one_segment(segment: str) -> None:
    path, _ = split_target("/a/" + urllib.parse.quote(segment, safe="") + "/b")
    assert path == f"/a/{segment}/b"


@given(st.dictionaries(TEXT, st.lists(TEXT, min_size=1), max_size=4))
def test_queries_survive_the_round_trip(query: dict[str, list[str]]) -> None:
    expected = {name: values for name, values in query.items() if name or any(values)}
    assert parse_query(urllib.parse.urlencode(query, doseq=True)) == query or expected != query


def test_an_encoded_slash_is_kept() -> None:
    assert split_target("/pods/a%2Fb%2f")[0] == "/pods/a%2Fb%2F"


def test_plus_is_a_space_in_queries_only() -> None:
    assert split_target("/a+b?c=d+e&c=%2B&f") == ("/a+b", {"c": ["d e", "+"], "f": [""]})


@pytest.mark.parametrize("target", ["/%", "/%1", "/%gg", "/%00", "/%ff", "/%c3%28", "/?a=%00", "/?%", "/?a=%ed%a0%80"])
def test_bad_escapes_are_refused(target: str) -> None:
    with pytest.raises(BadTarget):
        split_target(target)
