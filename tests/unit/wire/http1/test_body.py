"""Chunked framing, both ways, however it is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kybern.wire.http1.body import LAST_CHUNK, BadChunk, BodyTooLarge, ChunkedBody, frame_chunk, unframe


@given(st.lists(st.binary(min_size=1, max_size=300)), st.lists(st.integers(1, 50)), st.binary(max_size=50))
def test_a_body_survives_any_cut_and_leaves_what_follows(parts: list[bytes], cuts: list[int], after: bytes) -> None:
    wire = b"".join(map(frame_chunk, parts)) + LAST_CHUNK + after
    body, position, rest = ChunkedBody(1 << 20), 0, b""
    for cut in [*cuts, len(wire)]:
        piece = wire[position : position + cut]
        position += cut
        if body.done:
            rest += piece
        else:
            body.feed(piece)
            rest = body.rest
    assert body.done
    assert b"".join(body.parts) == b"".join(parts)
    assert rest == after


@given(st.lists(st.binary(max_size=300)))
def test_framing_is_undone_by_unframing(parts: list[bytes]) -> None:
    assert unframe(b"".join(map(frame_chunk, parts))) == b"".join(parts)


def test_an_empty_chunk_is_not_framed_for_it_would_end_the_body() -> None:
    assert frame_chunk(b"") == b""


@pytest.mark.parametrize(
    "wire",
    [
        b"\r\n",
        b"g\r\n",
        b"1 \r\nx",
        b" 1\r\n",
        b"0x1\r\n",
        b"1\nx",
        b"1\r\nxyz",
        b"1\r\nx\n0",
        b"123456789\r\n",
        b"1;" + b"e" * 5000,
    ],
)
def test_malformed_framing_is_refused(wire: bytes) -> None:
    with pytest.raises(BadChunk):
        ChunkedBody(1 << 20).feed(wire)


def test_trailers_are_bounded() -> None:
    body = ChunkedBody(10)
    with pytest.raises(BadChunk):
        body.feed(b"0\r\n" + b"x: y\r\n" * 3000)


def test_the_limit_counts_what_is_announced() -> None:
    body = ChunkedBody(10)
    body.feed(b"a\r\n0123456789\r\n")
    with pytest.raises(BodyTooLarge):
        body.feed(b"1\r\n")
