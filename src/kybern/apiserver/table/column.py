"""What a column and a printer are, and the cells that many kinds share."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kybern.api import scalars
from kybern.machinery import labels

UNKNOWN = "<unknown>"
NONE = "<none>"
UNSET = "<unset>"


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `priority` 1: only in wide output."""

    name: str
    kind: str = "string"  # or integer, number, boolean
    priority: int = 0
    format: str = ""

    @property
    def document(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "type": self.kind,
            "format": self.format,
            "description": "",
            "priority": self.priority,
        }


# The cells of an object at a moment, in the order of its columns.
Cells = Callable[[Any, datetime.datetime], list[Any]]


@dataclass(frozen=True, slots=True)
class Printer:
    """How a kind is printed."""

    columns: tuple[Column, ...]
    cells: Cells


NAME = Column("Name", format="name")
AGE = Column("Age")


def printer(cells: Cells, *columns: Column | str) -> Printer:
    """A printer; a text stands for a plain column, one that ends in `+` for a wide one."""
    made = []
    for column in columns:
        if isinstance(column, Column):
            made.append(column)
        elif column.endswith("+"):
            made.append(Column(column[:-1], priority=1))
        else:
            made.append(NAME if column == "Name" else Column(column))
    return Printer(tuple(made), cells)


def integer(name: str) -> Column:
    return Column(name, "integer")


def boolean(name: str) -> Column:
    return Column(name, "boolean")


CREATED_AT = Column("Created At", "date")


def age(obj: Any, now: datetime.datetime) -> str:
    """Since creation: `5d`, `3h12m`, `45s`."""
    return since(obj.metadata.creationTimestamp, now)


def since(moment: str | None, now: datetime.datetime) -> str:
    if not moment:
        return UNKNOWN
    return human(now - scalars.parse_time(moment))


def human(span: datetime.timedelta) -> str:
    """A duration with the two digits that matter, as kubectl prints it."""
    seconds = int(span.total_seconds())
    if seconds < -1:
        return "<invalid>"
    if seconds < 0:
        return "0s"
    if seconds < 120:
        return f"{seconds}s"
    minutes = seconds // 60
    if minutes < 10:
        rest = seconds % 60
        return f"{minutes}m{rest}s" if rest else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    hours = minutes // 60
    if hours < 8:
        rest = minutes % 60
        return f"{hours}h{rest}m" if rest else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    days = hours // 24
    if days < 8:
        rest = hours % 24
        return f"{days}d{rest}h" if rest else f"{days}d"
    if days < 730:
        return f"{days}d"
    years, rest = divmod(days, 365)
    if years < 8:
        return f"{years}y{rest}d" if rest else f"{years}y"
    return f"{years}y"


def selector_text(selector: Any) -> str:
    """A label selector (or a map of labels) as kubectl prints it; `<none>` if empty."""
    if selector is None:
        return NONE
    chosen = labels.from_map(selector) if isinstance(selector, dict) else labels.from_label_selector(selector)
    return str(chosen) or NONE


def map_text(values: Mapping[str, str]) -> str:
    return ",".join(f"{k}={v}" for k, v in sorted(values.items())) or NONE


def joined(values: Iterable[str | None], empty: str = NONE) -> str:
    return ",".join(v for v in values if v) or empty


def or_none(value: Any) -> Any:
    return NONE if value in (None, "") else value


def containers_and_images(template: Any) -> tuple[str, str]:
    """Names and images of a pod template's containers."""
    containers = template.spec.containers
    return ",".join(c.name for c in containers), ",".join(c.image or "" for c in containers)
