"""CRI log lines to what a client sees."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kybern.kubelet.server.logs.lines import LineFormatter
from kybern.machinery.log_options import LogOptions

LOG = (
    b"2026-01-01T00:00:01.5Z stdout F first\n"
    b"2026-01-01T00:00:02.123456789Z stderr P torn \n"
    b"2026-01-01T00:00:02.2Z stderr F apart\n"
    b"2026-01-01T00:00:03Z stdout F \n"
    b"2026-01-01T01:00:04.25+01:00 stdout F with  spaces\n"
)


def shown(options: LogOptions, log: bytes = LOG) -> bytes:
    formatter = LineFormatter(options)
    return formatter.feed(log) + formatter.finish()


@given(st.lists(st.integers(1, 40)))
def test_output_is_what_was_written_however_the_file_is_read(cuts: list[int]) -> None:
    formatter, position, out = LineFormatter(LogOptions()), 0, b""
    for cut in [*cuts, len(LOG)]:
        out += formatter.feed(LOG[position : position + cut])
        position += cut
    assert out == b"first\ntorn apart\n\nwith  spaces\n"


def test_timestamps_stand_before_lines_with_nine_decimals() -> None:
    assert shown(LogOptions(timestamps=True)) == (
        b"2026-01-01T00:00:01.500000000Z first\n"
        b"2026-01-01T00:00:02.123456789Z torn apart\n"
        b"2026-01-01T00:00:03.000000000Z \n"
        b"2026-01-01T01:00:04.250000000+01:00 with  spaces\n"
    )


@pytest.mark.parametrize(
    ("second", "micro", "expected"),
    [(1, 500000, b"first\n"), (1, 500001, b"torn"), (2, 150000, b"apart"), (4, 250000, b"with"), (4, 250001, b"")],
)
def test_since_keeps_what_is_not_older_in_any_zone(second: int, micro: int, expected: bytes) -> None:
    since = datetime.datetime(2026, 1, 1, 0, 0, second, micro, tzinfo=datetime.UTC)
    assert shown(LogOptions(since=since)).startswith(expected)
    assert bool(shown(LogOptions(since=since))) == bool(expected)


def test_one_stream_can_be_asked_for() -> None:
    assert shown(LogOptions(stream="stderr")) == b"torn apart\n"


@pytest.mark.parametrize("limit", [1, 6, 7, 1000])
def test_the_limit_is_exact(limit: int) -> None:
    whole = shown(LogOptions())
    formatter = LineFormatter(LogOptions(limit_bytes=limit))
    assert formatter.feed(LOG) == whole[:limit]
    assert formatter.is_full == (limit <= len(whole))


def test_what_is_no_entry_is_left_out_and_an_unfinished_one_is_shown_at_the_end() -> None:
    assert (
        shown(LogOptions(), b"garbage\n\n2026-01-01T00:00:00Z stdout F ok\n2026-01-01T00:00:01Z stdout F en")
        == b"ok\nen\n"
    )
    assert shown(LogOptions(), b"2026-01-01T00:00:01Z std") == b""
