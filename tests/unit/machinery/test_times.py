"""Durations as Go and kubectl write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kybern.machinery import times


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("0s", 0),
        ("1s", 1),
        ("300ms", 0.3),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("-1m", -60),
        ("+2m", 120),
        ("2h3m4.5s", 7384.5),
        ("100us", 0.0001),
        ("100µs", 0.0001),
        (".5s", 0.5),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert times.parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "1", "s", "1x", "1 s", "-", ".s", "1h-1m", "1d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid duration"):
        times.parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (1, "1s"),
        (0.3, "300ms"),
        (0.00012, "120µs"),
        (90, "1m30s"),
        (3600, "1h0m0s"),
        (5400.5, "1h30m0.5s"),
        (-60, "-1m0s"),
    ],
)
def test_durations_are_written_as_go_writes_them(seconds: float, text: str) -> None:
    assert times.render_duration(seconds) == text


@given(st.integers(-(10**7), 10**7))
def test_a_duration_survives_its_text(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert times.parse_duration(times.render_duration(seconds)) == pytest.approx(seconds)


HOUR, DAY = 3600, 86400


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (-0.5, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (10 * 60, "10m"),
        (10 * 60 + 5, "10m"),
        (179 * 60, "179m"),
        (3 * HOUR, "3h"),
        (3 * HOUR + 60, "3h1m"),
        (8 * HOUR + 60, "8h"),
        (47 * HOUR, "47h"),
        (2 * DAY, "2d"),
        (2 * DAY + 5 * HOUR, "2d5h"),
        (8 * DAY + 5 * HOUR, "8d"),
        (729 * DAY, "729d"),
        (730 * DAY, "2y"),
        (735 * DAY, "2y5d"),
        (8 * 365 * DAY + DAY, "8y"),
    ],
)
def test_ages_get_coarser_as_they_grow(seconds: float, text: str) -> None:
    assert times.render_age(seconds) == text
