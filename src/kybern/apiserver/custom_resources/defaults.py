"""Fill in a schema's defaults, and drop the nulls that it does not allow. In place, on private objects.

Called by codec, after prune. Source: "Defaulting and Nullable" in the Kubernetes documentation.
"""

from __future__ import annotations

from typing import Any

from kybern.apiserver.custom_resources import prune
from kybern.apiserver.custom_resources.structural import Node
from kybern.pausing import pausing


def apply(value: Any, node: Node) -> None:
    """Outer defaults first, so that what they hold gets the defaults within."""
    if type(value) is dict:
        _apply_to_object(value, node)
    elif type(value) is list and node.items is not None:
        items = node.items
        for i, inner in enumerate(pausing(value)):
            if inner is None and items.has_default and not items.nullable:
                value[i] = inner = prune.plain(items.default)
            if type(inner) in (dict, list):
                apply(inner, items)


def _apply_to_object(value: dict[str, Any], node: Node) -> None:
    for name, child in pausing(node.properties.items()):
        if child.has_default and (name not in value or (value[name] is None and not child.nullable)):
            value[name] = prune.plain(child.default)
    dropped: list[str] = []
    for name, inner in pausing(value.items()):
        field = node.properties.get(name) or node.additional
        if field is None:
            continue
        if inner is None:
            if not field.nullable:
                if field is node.additional and field.has_default:
                    value[name] = inner = prune.plain(field.default)
                else:
                    dropped.append(name)
                    continue
            else:
                continue
        if type(inner) in (dict, list):
            apply(inner, field)
    for name in dropped:
        del value[name]
