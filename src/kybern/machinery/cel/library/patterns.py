"""Users' regular expressions: RE2 only, so that none takes more than linear time; compiled once.

Read by the standard library, `regex` and format.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import re2

from kybern.machinery.cel.errors import EvaluationError

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 8 << 20


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> Any:
    """Raises EvaluationError for what is no pattern."""
    try:
        return re2.compile(pattern, _OPTIONS)
    except re2.error as error:
        raise EvaluationError(f"error parsing regexp: {_worded(pattern, error)}") from None


def is_found(pattern: str, text: str) -> bool:
    return compiled(pattern).search(text) is not None


def _worded(pattern: str, error: Exception) -> str:
    detail = error.args[0] if error.args else error
    text = detail.decode(errors="replace") if isinstance(detail, bytes) else str(detail)
    # RE2 says `missing ): (a`, Go's copy of it "missing closing ): `(a`".
    what, _, part = text.partition(": ")
    return f"{_GO.get(what, what)}: `{part or pattern}`"


_GO = {
    "missing )": "missing closing )",
    "unexpected )": "unexpected )",
    "missing ]": "missing closing ]",
    "no argument for repetition operator": "missing argument to repetition operator",
    "bad repetition operator": "invalid nested repetition operator",
    "invalid repetition size": "invalid repeat count",
    "invalid perl operator": "invalid or unsupported Perl syntax",
    "invalid character class range": "invalid character class range",
    "invalid named capture group": "invalid named capture",
}
