"""Numbers that components count about themselves, and their text form for /metrics.

Counted on hot paths, so a count is one dictionary access with a tuple of label values; names, texts and the order of
labels are only looked at when somebody scrapes. Upstream's names are kept as they are, also where they break the rules
of other libraries (`authentication_attempts` is a counter). Source: the Prometheus text exposition format 0.0.4.

The caller bounds the number of label values: what clients write freely must not become a label.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[str, ...]
Samples = Iterable[tuple[Labels, float]]


class Family(Protocol):
    """One metric with all its label values."""

    name: str

    def render(self, out: list[str]) -> None:
        """Append its lines; none where nothing was counted."""
        ...


class Counter:
    """A number that only grows."""

    kind = "counter"

    def __init__(self, name: str, text: str, labels: Labels = ()) -> None:
        self.name = name
        self.text = text
        self.labels = labels
        self.values: dict[Labels, float] = {}

    def add(self, *key: str, count: float = 1) -> None:
        self.values[key] = self.values.get(key, 0) + count

    def render(self, out: list[str]) -> None:
        if self.values:
            _head(out, self.name, self.text, self.kind)
            for key, value in sorted(self.values.items()):
                out.append(f"{self.name}{_braced(self.labels, key)} {_number(value)}")


class Gauge(Counter):
    """A number that is now."""

    kind = "gauge"

    def set(self, *key: str, value: float) -> None:
        self.values[key] = value


class Read:
    """A counter or gauge that is read when somebody scrapes."""

    def __init__(self, kind: str, name: str, text: str, labels: Labels, read: Callable[[], Samples]) -> None:
        self.name = name
        self.text = text
        self.labels = labels
        self._kind = kind
        self._read = read

    def render(self, out: list[str]) -> None:
        found = sorted(self._read())
        if found:
            _head(out, self.name, self.text, self._kind)
            for key, value in found:
                out.append(f"{self.name}{_braced(self.labels, key)} {_number(value)}")


class Series:
    """One line of a histogram: how many observations fell into each bucket, and their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def total(self) -> int:
        return sum(self.counts)


class Histogram:
    """Observations by bucket. `bounds` ascend; the last bucket (+Inf) is added."""

    def __init__(self, name: str, text: str, labels: Labels, bounds: Sequence[float]) -> None:
        self.name = name
        self.text = text
        self.labels = labels
        self.bounds = tuple(bounds)
        self.series: dict[Labels, Series] = {}

    def of(self, key: Labels) -> Series:
        """The series of some label values: keep it where the same ones come again and again."""
        found = self.series.get(key)
        if found is None:
            found = self.series[key] = Series(self.bounds)
        return found

    def observe(self, value: float, *key: str) -> None:
        self.of(key).observe(value)

    def render(self, out: list[str]) -> None:
        if self.series:
            _head(out, self.name, self.text, "histogram")
            for key, series in sorted(self.series.items(), key=lambda item: item[0]):
                render_series(out, self.name, self.labels, key, series)


def render_series(out: list[str], name: str, labels: Labels, key: Labels, series: Series) -> None:
    """The lines of one series of a histogram."""
    inner = _pairs(labels, key)
    comma = "," if inner else ""
    reached = 0
    for bound, count in zip((*series.bounds, float("inf")), series.counts, strict=True):
        reached += count
        out.append(f'{name}_bucket{{{inner}{comma}le="{_number(bound)}"}} {reached}')
    braced = f"{{{inner}}}" if inner else ""
    out.append(f"{name}_sum{braced} {_number(series.sum)}")
    out.append(f"{name}_count{braced} {reached}")


class Registry:
    """All families of a component, each name once."""

    def __init__(self) -> None:
        self._families: dict[str, Family] = {}

    def add(self, family: Family) -> None:
        """Raises ValueError for a name that there is."""
        if family.name in self._families:
            raise ValueError(f"metric {family.name} exists")
        self._families[family.name] = family

    def counter(self, name: str, text: str, labels: Labels = ()) -> Counter:
        made = Counter(name, text, labels)
        self.add(made)
        return made

    def gauge(self, name: str, text: str, labels: Labels = ()) -> Gauge:
        made = Gauge(name, text, labels)
        self.add(made)
        return made

    def histogram(self, name: str, text: str, labels: Labels, bounds: Sequence[float]) -> Histogram:
        made = Histogram(name, text, labels, bounds)
        self.add(made)
        return made

    def read(self, kind: str, name: str, text: str, labels: Labels, read: Callable[[], Samples]) -> None:
        """Add a `counter` or `gauge` that is read when somebody scrapes: `read` gives (label values, number) pairs."""
        self.add(Read(kind, name, text, labels, read))

    def render(self) -> bytes:
        out: list[str] = []
        for name in sorted(self._families):
            self._families[name].render(out)
        out.append("")
        return "\n".join(out).encode()


def exponential(start: float, factor: float, count: int) -> tuple[float, ...]:
    """Bounds that grow by a factor."""
    bounds = [start]
    while len(bounds) < count:
        bounds.append(bounds[-1] * factor)
    return tuple(bounds)


def _head(out: list[str], name: str, text: str, kind: str) -> None:
    out.append(f"# HELP {name} {_escaped_help(text)}")
    out.append(f"# TYPE {name} {kind}")


def _escaped_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _escaped(value: str) -> str:
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return value


def _braced(labels: Labels, key: Labels) -> str:
    return f"{{{_pairs(labels, key)}}}" if labels else ""


def _pairs(labels: Labels, key: Labels) -> str:
    """In order of their names, as upstream writes them."""
    return ",".join(f'{label}="{_escaped(value)}"' for label, value in sorted(zip(labels, key, strict=True)))


def _number(value: float) -> str:
    """As Go writes floats: 1, 0.5, 1e+06, +Inf."""
    if value == float("inf"):
        return "+Inf"
    if math.isnan(value):
        return "NaN"
    if value == int(value) and abs(value) < 1e21:
        whole = int(value)
        if abs(whole) < 1_000_000:
            return str(whole)
        digits = str(abs(whole))
        mantissa = digits.rstrip("0")
        point = f"{mantissa[0]}.{mantissa[1:]}" if len(mantissa) > 1 else mantissa
        return f"{'-' if whole < 0 else ''}{point}e+{len(digits) - 1:02d}"
    return repr(float(value))
