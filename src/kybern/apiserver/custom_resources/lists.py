"""Lists that are sets or maps hold no item twice. Called by strategy after validate, along the same tree."""

from __future__ import annotations

from typing import Any

import msgspec

from kybern.apiserver.custom_resources import prune
from kybern.apiserver.custom_resources.prune import Path
from kybern.apiserver.custom_resources.structural import Node
from kybern.machinery.status import FieldError, duplicate, invalid
from kybern.pausing import pausing

_encode = msgspec.json.Encoder(order="deterministic").encode


def has_unique(node: Node) -> bool:
    """Whether anything below asks for unique items: most schemas need not be walked."""
    if node.list_type in ("set", "map"):
        return True
    inner = [*node.properties.values(), *filter(None, (node.additional, node.items))]
    return any(has_unique(child) for child in inner)


def check(value: Any, node: Node, path: Path, errors: list[FieldError]) -> None:
    """Add an error for every item that came before."""
    if type(value) is dict:
        for name, inner in pausing(value.items()):
            child = node.properties.get(name) or node.additional
            if child is not None and type(inner) in (dict, list):
                check(inner, child, (path, name), errors)
    elif type(value) is list:
        if node.list_type in ("set", "map"):
            _check_unique(value, node, path, errors)
        if node.items is not None:
            for i, inner in enumerate(pausing(value)):
                if type(inner) in (dict, list):
                    check(inner, node.items, (path, i), errors)


def _check_unique(value: list[Any], node: Node, path: Path, errors: list[FieldError]) -> None:
    seen: set[bytes] = set()
    for i, item in enumerate(pausing(value)):
        key = item
        if node.list_type == "map":
            if type(item) is not dict:
                told = "must be an object for an array of list-type map"
                errors.append(invalid(prune.render_path((path, i)), item, told))
                continue
            key = {name: item[name] for name in node.map_keys if name in item}
        encoded = _encode(key)
        if encoded in seen:
            errors.append(duplicate(prune.render_path((path, i)), key))
        seen.add(encoded)
