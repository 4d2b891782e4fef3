"""Links that point through the proxy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kybern.apiserver.proxy.links import HtmlRewriter, rewrite_url

PREFIX, BACKEND = "/api/v1/namespaces/n/pods/p/proxy", "10.0.0.1:80"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("/x", PREFIX + "/x"),
        ("/x?y=1#z", PREFIX + "/x?y=1#z"),
        ("http://10.0.0.1:80/x", PREFIX + "/x"),
        (PREFIX + "/x", PREFIX + "/x"),
        ("x", "x"),
        ("../x", "../x"),
        ("http://elsewhere/x", "http://elsewhere/x"),
        ("//elsewhere/x", "//elsewhere/x"),
        ("mailto:a@b", "mailto:a@b"),
        ("javascript:x()", "javascript:x()"),
        ("http://[broken", "http://[broken"),
        ("", ""),
    ],
)
def test_absolute_paths_go_through_the_proxy(url: str, expected: str) -> None:
    assert rewrite_url(url, PREFIX, BACKEND) == expected


PAGE = (
    b"""<!doctype html><a class="x" href="/one">/text stays</a><img src='/two'><A HREF=/three>t</A>"""
    b"""<a href="rel" data-href="/not">a > b < c</a><form action="/four" title="a>b"></form> if (a</x/)"""
)


@given(st.lists(st.integers(1, 20)))
def test_pages_are_rewritten_however_they_are_cut(cuts: list[int]) -> None:
    rewriter, position, out = HtmlRewriter(PREFIX, BACKEND), 0, b""
    for cut in [*cuts, len(PAGE)]:
        out += rewriter.feed(PAGE[position : position + cut])
        position += cut
    out += rewriter.finish()
    expected = PAGE
    for quote, path in ((b'"', b"/one"), (b"'", b"/two"), (b"=", b"/three"), (b'"', b"/four")):
        expected = expected.replace(quote + path, quote + PREFIX.encode() + path)
    assert out == expected


def test_a_tag_without_end_is_not_waited_for_forever() -> None:
    rewriter = HtmlRewriter(PREFIX, BACKEND)
    assert rewriter.feed(b"<a " + b"x" * 100) == b""
    assert len(rewriter.feed(b"y" * 9_000)) == 9_103
    assert rewriter.finish() == b""


def test_a_quote_without_end_costs_no_more_than_its_length() -> None:
    assert len(HtmlRewriter(PREFIX, BACKEND).feed(b"<a'<a\"" * 200_000)) == 1_200_000
