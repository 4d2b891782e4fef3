"""Cron schedules: "*/5 8-18 * * MON-FRI", "@hourly", "@every 90m".

Read by validation and the CronJob controller. Times are wall times of a zone: what the clock skips in spring does not
happen, what it repeats in autumn happens each time. Source: "CronJob" in the Kubernetes documentation.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass

from kybern.machinery import times

_MONTHS = {name: i + 1 for i, name in enumerate("jan feb mar apr may jun jul aug sep oct nov dec".split())}  # noqa: SIM905
_DAYS = {name: i for i, name in enumerate("sun mon tue wed thu fri sat".split())}  # noqa: SIM905
_DESCRIPTORS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_HORIZON = 5  # years: a schedule without a date in these (31 February) never comes


@dataclass(frozen=True, slots=True)
class _Field:
    values: frozenset[int]
    any: bool  # "*" or "?" without a step


@dataclass(frozen=True, slots=True)
class Schedule:
    """When to run. `every` (seconds) replaces the fields if positive."""

    minute: _Field
    hour: _Field
    day: _Field
    month: _Field
    weekday: _Field
    every: float = 0.0

    def next_after(self, moment: datetime.datetime) -> datetime.datetime | None:
        """The first time after `moment` (aware, in the schedule's zone); None if there is none in five years."""
        if self.every > 0:
            return (moment + datetime.timedelta(seconds=self.every)).replace(microsecond=0)
        zone = moment.tzinfo
        wall = moment.replace(tzinfo=None, second=0, microsecond=0, fold=0)
        limit = wall.year + _HORIZON
        found: list[datetime.datetime] = []
        for fold, start in ((0, wall), (1, wall - self._repeated(moment))):
            candidate: datetime.datetime | None = start
            while candidate is not None:
                candidate = self._next_wall(candidate, limit)
                if candidate is None:
                    break
                actual = candidate.replace(tzinfo=zone, fold=fold)
                if _exists(actual) and actual.astimezone(datetime.UTC) > moment.astimezone(datetime.UTC):
                    found.append(actual)
                    break
        return min(found, key=lambda m: m.astimezone(datetime.UTC)) if found else None

    def _repeated(self, moment: datetime.datetime) -> datetime.timedelta:
        """How much of the clock is shown twice around `moment`."""
        first, second = moment.replace(fold=0).utcoffset(), moment.replace(fold=1).utcoffset()
        if first is None or second is None or first <= second:
            return datetime.timedelta(0)
        return first - second

    def _next_wall(self, after: datetime.datetime, limit: int) -> datetime.datetime | None:
        moment = after + datetime.timedelta(minutes=1)
        while moment.year <= limit:
            if moment.month not in self.month.values:
                year, month = (moment.year + 1, 1) if moment.month == 12 else (moment.year, moment.month + 1)
                moment = datetime.datetime(year, month, 1)
            elif not self._is_day(moment):
                moment = datetime.datetime(moment.year, moment.month, moment.day) + datetime.timedelta(days=1)
            elif moment.hour not in self.hour.values:
                moment = moment.replace(minute=0) + datetime.timedelta(hours=1)
            elif moment.minute not in self.minute.values:
                moment += datetime.timedelta(minutes=1)
            else:
                return moment
        return None

    def _is_day(self, moment: datetime.datetime) -> bool:
        """Both fields if one of them is "*", either of them if both are told."""
        by_date = moment.day in self.day.values
        by_weekday = moment.isoweekday() % 7 in self.weekday.values
        if self.day.any or self.weekday.any:
            return by_date and by_weekday
        return by_date or by_weekday


def _exists(moment: datetime.datetime) -> bool:
    return moment.astimezone(datetime.UTC).astimezone(moment.tzinfo).replace(tzinfo=None) == moment.replace(tzinfo=None)


_NEVER = _Field(frozenset(), False)


def parse(text: str) -> Schedule:
    """Raises ValueError with upstream's words."""
    if text.startswith("@every "):
        try:
            seconds = times.parse_duration(text.removeprefix("@every "))
        except ValueError as error:
            raise ValueError(f"failed to parse duration {text}: {error}") from None
        # Whole seconds, one at least.
        return Schedule(_NEVER, _NEVER, _NEVER, _NEVER, _NEVER, float(max(1, int(seconds))))
    if text.startswith("@"):
        if text not in _DESCRIPTORS:
            raise ValueError(f"unrecognized descriptor: {text}")
        text = _DESCRIPTORS[text]
    fields = text.split()
    if len(fields) != 5:
        raise ValueError(f"expected exactly 5 fields, found {len(fields)}: [{' '.join(fields)}]")
    return Schedule(
        _field(fields[0], 0, 59, {}),
        _field(fields[1], 0, 23, {}),
        _field(fields[2], 1, 31, {}),
        _field(fields[3], 1, 12, _MONTHS),
        _field(fields[4], 0, 6, _DAYS),
    )


def _field(text: str, low: int, high: int, names: dict[str, int]) -> _Field:
    values: set[int] = set()
    is_any = False
    for part in text.split(","):
        if part:
            found, star = _range(part, low, high, names)
            values.update(found)
            is_any = is_any or star
    return _Field(frozenset(values), is_any)


def _range(text: str, low: int, high: int, names: dict[str, int]) -> tuple[range, bool]:
    span, *steps = text.split("/")
    ends = span.split("-")
    star = ends[0] in ("*", "?")
    if star:
        if len(ends) > 1:
            raise ValueError(f"too many hyphens: {text}")
        start, end = low, high
    elif len(ends) > 2:
        raise ValueError(f"too many hyphens: {text}")
    else:
        start = _number(ends[0], names)
        end = _number(ends[1], names) if len(ends) == 2 else start
    if len(steps) > 1:
        raise ValueError(f"too many slashes: {text}")
    step = 1
    if steps:
        step = _number(steps[0], {})
        if not star and len(ends) == 1:
            end = high  # "5/15": from 5 on
    if start < low:
        raise ValueError(f"beginning of range ({start}) below minimum ({low}): {text}")
    if end > high:
        raise ValueError(f"end of range ({end}) above maximum ({high}): {text}")
    if start > end:
        raise ValueError(f"beginning of range ({start}) beyond end of range ({end}): {text}")
    if step == 0:
        raise ValueError(f"step of range should be a positive number: {text}")
    return range(start, end + 1, step), star and step == 1


def _number(text: str, names: dict[str, int]) -> int:
    named = names.get(text.lower())
    if named is not None:
        return named
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise ValueError(f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": invalid syntax')
    number = int(text)
    if number < 0:
        raise ValueError(f"negative number ({number}) not allowed: {text}")
    return number
