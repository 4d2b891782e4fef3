"""What a column and a printer are, and the cells that many kinds share."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kybern.api import scalars
from kybern.machinery import labels, times

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
    description: str = ""

    @property
    def document(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "type": self.kind,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        }


# The cells of an object at a moment, in the order of its columns.
Cells = Callable[[Any, datetime.datetime], list[Any]]


@dataclass(frozen=True, slots=True)
class Printer:
    """How a kind is printed."""

    columns: tuple[Column, ...]
    cells: Cells
    # The sort key of rows; None: as they are listed.
    order: Callable[[Any], Any] | None = None
    # What is remarkable about an object, for clients that hide rows.
    conditions: Callable[[Any], Sequence[Mapping[str, str]]] | None = None

    @property
    def empty(self) -> list[Any]:
        """The cells of no object."""
        return [UNKNOWN if c.name == "Age" else 0 if c.kind == "integer" else "" for c in self.columns]


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
    return times.render_age(span.total_seconds())


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
