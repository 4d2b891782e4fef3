"""SPDY frames and header blocks, byte for byte."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kybern.wire.spdy import frames
from kybern.wire.spdy.dictionary import DICTIONARY
from kybern.wire.spdy.headers import BadHeaders, HeaderCodec


def test_the_dictionary_is_the_drafts() -> None:
    assert len(DICTIONARY) == 1423
    assert zlib.adler32(DICTIONARY) == 0xE3C6A7C2


def test_frames_are_laid_out_as_the_draft_says() -> None:
    assert frames.render_ping(1) == bytes.fromhex("80030006 00000004 00000001")
    assert frames.render_data(1, b"ab", fin=True) == bytes.fromhex("00000001 01000002 6162")
    assert frames.render_rst_stream(3, 5) == bytes.fromhex("80030003 00000008 00000003 00000005")
    assert frames.render_goaway(1, 0) == bytes.fromhex("80030007 00000008 00000001 00000000")
    assert frames.render_syn_stream(1, b"HH", fin=False) == bytes.fromhex(
        "80030001 0000000c 00000001 00000000 0000 4848"
    )
    assert frames.render_syn_reply(1, b"HH", fin=True) == bytes.fromhex("80030002 01000006 00000001 4848")


@given(st.lists(st.integers(1, 40)), st.integers(0, 200))
def test_frames_are_read_however_they_are_cut(cuts: list[int], size: int) -> None:
    wire = (
        frames.render_ping(1)
        + frames.render_data(1, b"x" * size, fin=True)
        + frames.render_data(3, b"", fin=False)
        + frames.render_goaway(1, 0)
    )
    reader, found, position = frames.FrameReader(), [], 0
    for cut in [*cuts, len(wire)]:
        found += reader.feed(wire[position : position + cut])
        position += cut
    controls = [f for f in found if isinstance(f, frames.Control)]
    assert [c.kind for c in controls] == [frames.PING, frames.GOAWAY]
    first = [f for f in found if isinstance(f, frames.Data) and f.stream == 1]
    assert b"".join(f.data for f in first) == b"x" * size
    assert [f.fin for f in first] == [False] * (len(first) - 1) + [True]


@pytest.mark.parametrize(
    "wire", [b"\x80\x02\x00\x06\0\0\0\x04\0\0\0\1", b"\x80\x03\x00\x06\0\xff\xff\xff", b"HTTP/1.1 400 Bad"]
)
def test_what_is_no_frame_is_a_fault_or_data(wire: bytes) -> None:
    if wire[:1] == b"H":  # reads as a data frame: the session finds the stream unknown
        assert isinstance(frames.FrameReader().feed(wire)[0], frames.Data)
    else:
        with pytest.raises(frames.BadFrame):
            frames.FrameReader().feed(wire)


def test_header_blocks_survive_the_round_trip_and_build_on_each_other() -> None:
    there, back = HeaderCodec(), HeaderCodec()
    for _ in range(3):
        headers = {"streamtype": "data", "port": "8080", "requestid": "0", "x": "ü"}
        assert back.decode(there.encode(headers)) == headers


def test_a_block_that_inflates_without_end_is_a_fault() -> None:
    packer = zlib.compressobj(zdict=DICTIONARY)
    bomb = packer.compress(b"\0" * 50_000_000) + packer.flush(zlib.Z_SYNC_FLUSH)
    with pytest.raises(BadHeaders):
        HeaderCodec().decode(bomb)


@pytest.mark.parametrize(
    "plain", [b"", b"\0\0\0\1", b"\0\0\0\1\0\0\0\xff", b"\0\0\0\1\0\0\0\1a\0\0\0\1\xff", b"\0\0\0\1\0\0\0\0\0\0\0\0"]
)
def test_malformed_blocks_are_faults(plain: bytes) -> None:
    packer = zlib.compressobj(zdict=DICTIONARY)
    with pytest.raises(BadHeaders):
        HeaderCodec().decode(packer.compress(plain) + packer.flush(zlib.Z_SYNC_FLUSH))
