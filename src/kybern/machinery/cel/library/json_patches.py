"""What mutations are written with: `JSONPatch{op: "add", ...}` and `jsonpatch.escapeKey`.

Source: "Mutating Admission Policy: JSON patches" in the documentation; RFC 6901 for the escapes.
"""

from __future__ import annotations

from typing import Final

from kybern.machinery.cel import types
from kybern.machinery.cel.functions import Library, traversal
from kybern.machinery.cel.types import ObjectField, ObjectType

LIBRARY = Library("jsonpatch.escapeKey(string): string")

PATCH: Final = ObjectType(
    "JSONPatch",
    {
        "op": ObjectField(types.STRING, "op"),
        "path": ObjectField(types.STRING, "path"),
        "from": ObjectField(types.STRING, "from"),
        "value": ObjectField(types.DYN, "value"),
    },
)


@LIBRARY.add("jsonpatch.escapeKey", str, cost=traversal)
def _escape_key(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
