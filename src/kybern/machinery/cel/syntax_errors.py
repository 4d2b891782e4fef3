"""Word a syntax error as clients know it: Google's own parser (cel-expr-python) says what it misses.

Our parser decides what is a program; this one is only asked about texts that are none. Called by program.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from kybern.machinery.cel.errors import CelError, Issue, Worded

_SUFFIX = " [INVALID_ARGUMENT]"
_PREFIX = "INVALID_ARGUMENT: "
# What its grammar says otherwise than upstream's: there a keyword after a dot is no field.
_KEYWORD = re.compile(r"no viable alternative at input '\.(true|false|null)'")


@lru_cache(maxsize=1)
def _environment() -> Any:
    from cel_expr_python import cel  # 20 ms, and rarely needed
    from cel_expr_python.ext import ext_bindings, ext_optional

    return cel.NewEnv(extensions=[ext_bindings.ExtBindings(), ext_optional.ExtOptional()])


def worded(text: str, issue: Issue) -> CelError:
    """The fault of a text that our parser refused with `issue`."""
    own = CelError(text, [issue])
    if len(text) > 100_000:
        return own
    try:
        _environment().compile(text, disable_check=True)
    except RuntimeError as error:  # absl::Status, as the binding raises it
        message = str(error)
        if message.startswith(_PREFIX) and "ERROR: <input>:" in message and "recursion" not in message:
            lines = message.removeprefix(_PREFIX).removesuffix(_SUFFIX).rstrip("\n")
            return Worded(_cleaned(lines, text))
    return own


def _cleaned(message: str, text: str) -> str:
    """Without what that parser says about itself, and with the line that it leaves out at the end of a text."""
    kept: list[str] = []
    for block in message.split("\nERROR: "):
        whole = block if block.startswith("ERROR: ") else f"ERROR: {block}"
        if ":4294967295:" in whole:
            continue
        if "\n | " not in whole and not text:
            whole += "\n | \n | ^"
        kept.append(whole)
    return _KEYWORD.sub(r"mismatched input '\1' expecting IDENTIFIER", "\n".join(kept))
