"""Cron schedules. The faults are told in the API server's words (see also validation/recorded_kinds.jsonl)."""

from __future__ import annotations

import datetime
import zoneinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kybern.machinery import cron

UTC = datetime.UTC
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


def at(text: str, zone: datetime.tzinfo = UTC) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=zone)


@pytest.mark.parametrize(
    ("schedule", "after", "following"),
    [
        ("* * * * *", "2026-01-01 00:00:30", "2026-01-01 00:01"),
        ("*/15 * * * *", "2026-01-01 00:15", "2026-01-01 00:30"),
        ("0 * * * *", "2026-01-01 00:00", "2026-01-01 01:00"),
        ("5-10/5 3 * * *", "2026-01-01 03:05", "2026-01-01 03:10"),
        ("50/5 * * * *", "2026-01-01 00:00", "2026-01-01 00:50"),
        ("0 0 1 1 *", "2026-01-01 00:00", "2027-01-01 00:00"),
        ("@yearly", "2026-01-01 00:00", "2027-01-01 00:00"),
        ("@weekly", "2026-01-01 00:00", "2026-01-04 00:00"),
        ("@hourly", "2026-01-01 00:30", "2026-01-01 01:00"),
        ("0 0 29 2 *", "2026-01-01 00:00", "2028-02-29 00:00"),
        ("0 9 * * MON-FRI", "2026-01-02 09:00", "2026-01-05 09:00"),
        ("0 0 * JAN,jul *", "2026-01-31 00:00", "2026-07-01 00:00"),
        # Both fields told: either will do. One of them "*": both must.
        ("0 0 13 * 5", "2026-01-01 00:00", "2026-01-02 00:00"),
        ("0 0 13 * *", "2026-01-01 00:00", "2026-01-13 00:00"),
        ("0 0 ? * 5", "2026-01-03 00:00", "2026-01-09 00:00"),
    ],
)
def test_the_next_time_is_found(schedule: str, after: str, following: str) -> None:
    assert cron.parse(schedule).next_after(at(after)) == at(following)


def test_a_date_that_never_comes_has_no_next_time() -> None:
    assert cron.parse("0 0 31 2 *").next_after(at("2026-01-01")) is None


def test_every_counts_from_the_last_time() -> None:
    assert cron.parse("@every 90m").next_after(at("2026-01-01 00:10:30")) == at("2026-01-01 01:40:30")
    assert cron.parse("@every 10ms").next_after(at("2026-01-01")) == at("2026-01-01 00:00:01")


def test_what_the_clock_skips_in_spring_does_not_happen() -> None:
    # 29 March 2026, 02:00 becomes 03:00.
    schedule = cron.parse("30 2 * * *")
    following = schedule.next_after(at("2026-03-28 12:00", BERLIN))
    assert following is not None
    assert following.astimezone(UTC) == at("2026-03-30 00:30")


def test_what_the_clock_repeats_in_autumn_happens_twice() -> None:
    # 25 October 2026, 03:00 becomes 02:00.
    schedule = cron.parse("30 * * * *")
    moment = at("2026-10-25 01:45", BERLIN)
    told = []
    for _ in range(4):
        following = schedule.next_after(moment)
        assert following is not None
        told.append(following.astimezone(UTC).strftime("%H:%M"))
        moment = following
    assert told == ["00:30", "01:30", "02:30", "03:30"]


@pytest.mark.parametrize(
    ("schedule", "fault"),
    [
        ("", "expected exactly 5 fields, found 0: []"),
        ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
        ("60 * * * *", "end of range (60) above maximum (59): 60"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("@foo", "unrecognized descriptor: @foo"),
        ("0 0 * * 7", "end of range (7) above maximum (6): 7"),
        ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
        ("1/2/3 * * * *", "too many slashes: 1/2/3"),
        ("a * * * *", 'failed to parse int from a: strconv.Atoi: parsing "a": invalid syntax'),
    ],
)
def test_a_bad_schedule_is_refused_with_upstreams_words(schedule: str, fault: str) -> None:
    with pytest.raises(ValueError) as caught:
        cron.parse(schedule)
    assert str(caught.value) == fault


@given(st.text(alphabet="0123456789*/-,?@ MONJAevry", max_size=20))
def test_any_text_is_a_schedule_or_a_value_error(text: str) -> None:
    try:
        schedule = cron.parse(text)
    except ValueError:
        return
    moment = at("2026-01-01")
    following = schedule.next_after(moment)
    assert following is None or following > moment


@given(
    st.integers(0, 59), st.integers(0, 23), st.datetimes(datetime.datetime(2020, 1, 1), datetime.datetime(2030, 1, 1))
)
def test_a_daily_schedule_comes_within_a_day(minute: int, hour: int, moment: datetime.datetime) -> None:
    start = moment.replace(tzinfo=UTC)
    following = cron.parse(f"{minute} {hour} * * *").next_after(start)
    assert following is not None
    assert (following.minute, following.hour, following.second) == (minute, hour, 0)
    assert datetime.timedelta(0) < following - start <= datetime.timedelta(days=1)
