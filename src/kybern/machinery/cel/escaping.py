"""How the name of a property is spelled in an expression: `__namespace__`, `my__dash__name`.

Read by schema_types. Source: "Validation rules: escaping" in the documentation of CustomResourceDefinition.
"""

from __future__ import annotations

import re
from typing import Final

_KEYWORDS: Final = frozenset(
    {
        "true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import",
        "let", "loop", "package", "namespace", "return", "var", "void", "while",
    }
)  # fmt: skip
# Those that are no words of CEL: a property so named is found without the escape as well.
LENIENT: Final = _KEYWORDS - {"true", "false", "null", "in"}
_MARKS: Final = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}
_MARK = re.compile(r"__|[.\-/]")
_NAME = re.compile(r"[a-zA-Z_.\-/][a-zA-Z0-9_.\-/]*\Z")


def escape(name: str) -> str | None:
    """The spelling in expressions; None if it cannot be named there."""
    if not _NAME.match(name):
        return None
    if name in _KEYWORDS:
        return f"__{name}__"
    escaped = _MARK.sub(lambda m: _MARKS[m.group()], name)
    return None if escaped[0].isdigit() else escaped
