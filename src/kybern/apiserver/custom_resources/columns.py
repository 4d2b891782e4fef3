"""The columns of a version's Tables: the name, and what the definition asks for.

Made by version, used by the forms of handlers through Served.printer.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from kybern.api import codec, scalars
from kybern.api.custom import CustomObject
from kybern.apiserver.custom_resources import jsonpath, numbers
from kybern.apiserver.table.column import Column, Printer, human
from kybern.machinery.schema import definition

log = structlog.get_logger(__name__)

_AGE = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
_AGE_TEXT = "creationTimestamp"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"


def printer_of(columns: Sequence[Mapping[str, Any]]) -> Printer:
    """The printer of a version's additionalPrinterColumns; without any, the age."""
    described: list[Mapping[str, Any]] = list(columns)
    if not described:
        described = [{**_AGE, "description": _text_of(_AGE_TEXT)}]
    made = [Column("Name", format="name", description=_text_of("name"))]
    cells = []
    for column in described:
        try:
            path = jsonpath.compile_path(column["jsonPath"])
        except jsonpath.PathError as error:
            # Upstream takes paths that it cannot follow, and prints what comes before them.
            log.warning("a column cannot be printed", column=column["name"], error=str(error))
            break
        made.append(
            Column(
                column["name"],
                column["type"],
                column.get("priority") or 0,
                column.get("format") or "",
                column.get("description")
                or f"Custom resource definition column (in JSONPath format): {column['jsonPath']}",
            )
        )
        cells.append((path, column["type"]))

    def print_cells(obj: Any, now: datetime.datetime) -> list[Any]:
        document = document_of(obj)
        return [obj.metadata.name, *(_cell(path.find(document), kind, now) for path, kind in cells)]

    return Printer(tuple(made), print_cells)


def document_of(obj: CustomObject) -> dict[str, Any]:
    """All of an object as JSON."""
    return {**obj.document(), "metadata": codec.to_json(obj.metadata)}


def _text_of(field: str) -> str:
    text: str = definition(_META)["properties"][field].get("description", "")
    return text


def _cell(found: list[Any], kind: str, now: datetime.datetime) -> Any:
    if not found:
        return None
    if kind == "string":
        return _text(found[0])
    value = found[0]
    match kind:
        case "integer":
            if type(value) is float:
                return int(value)
            return value if type(value) is int else None
        case "number":
            return value if type(value) in (int, float) else None
        case "boolean":
            return value if type(value) is bool else None
        case "date":
            try:
                return human(now - scalars.parse_time(value)) if isinstance(value, str) else None
            except ValueError:
                return "<invalid>"
        case _:
            return None


def _text(value: Any) -> str:
    """As a JSONPath template prints it."""
    if isinstance(value, str):
        return value
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return numbers.render(value)
    return codec.encode(value).decode()
