"""Put the OpenAPI v2 documents of other API servers into this server's own. Pure.

Called by serve, in a thread. Of each document only the paths of its group-version count, with what they need.
A definition that has the same name here and says something else gets another name, as upstream does it (`..._v2`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Document = dict[str, Any]
_PREFIX = "#/definitions/"
_DEEPEST = 200


def part_of(document: Any, path: str) -> Document:
    """What a server's document says about paths at and below `path`. Raises ValueError for what is no such document."""
    if not isinstance(document, dict) or not isinstance(document.get("paths"), dict):
        raise ValueError("not an OpenAPI v2 document")
    definitions = document.get("definitions")
    known = definitions if isinstance(definitions, dict) else {}
    paths = {name: item for name, item in document["paths"].items() if name == path or name.startswith(f"{path}/")}
    needed: dict[str, Any] = {}
    open_names = _names(paths)
    while open_names:
        name = open_names.pop()
        if name in known and name not in needed:
            needed[name] = known[name]
            open_names |= _names(known[name])
    return {"paths": paths, "definitions": needed}


def merge(own: Document, parts: Iterable[Document]) -> None:
    """Add `parts` (see `part_of`) to `own`, which is changed."""
    definitions = own.setdefault("definitions", {})
    for part in parts:
        renamed = {
            name: _free_name(name, definitions)
            for name, said in part["definitions"].items()
            if name in definitions and definitions[name] != said
        }

        def target(name: str, renamed: dict[str, str] = renamed) -> str:
            return renamed.get(name, name)

        for name, said in part["definitions"].items():
            if name in renamed or name not in definitions:
                definitions[target(name)] = _with_names(said, target) if renamed else said
        for path, item in part["paths"].items():
            own["paths"].setdefault(path, _with_names(item, target) if renamed else item)


def _free_name(name: str, taken: Document) -> str:
    number = 2
    while f"{name}_v{number}" in taken:
        number += 1
    return f"{name}_v{number}"


def _names(value: Any) -> set[str]:
    """Definitions that a value refers to."""
    found: set[str] = set()
    level = [value]
    for _ in range(_DEEPEST):
        following: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                reference = item.get("$ref")
                if isinstance(reference, str) and reference.startswith(_PREFIX):
                    found.add(reference[len(_PREFIX) :])
                following.extend(item.values())
            elif isinstance(item, list):
                following.extend(item)
        if not following:
            return found
        level = following
    raise ValueError("the document is nested too deeply")


def _with_names(value: Any, target: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        changed = {key: _with_names(item, target) for key, item in value.items()}
        reference = value.get("$ref")
        if isinstance(reference, str) and reference.startswith(_PREFIX):
            changed["$ref"] = _PREFIX + target(reference[len(_PREFIX) :])
        return changed
    if isinstance(value, list):
        return [_with_names(item, target) for item in value]
    return value
