"""What goes wrong with policies, told by file and line."""

from __future__ import annotations

import traceback
from pathlib import Path
from types import TracebackType


class PolicyError(Exception):
    """A policy file that cannot be used. The text begins with `file.py:12: `."""


class BudgetExceeded(BaseException):
    """A policy took too long. No `Exception`, so that a policy's own `except Exception` does not swallow it."""


def place(error: BaseException, folder: Path) -> str:
    """`file.py:12`: the last line of the folder's own files in the way of the error; "" if there is none."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_short(error.filename, folder)}:{error.lineno or 1}"
    return place_of(error.__traceback__, folder)


def place_of(trace: TracebackType | None, folder: Path) -> str:
    found = ""
    for frame in traceback.extract_tb(trace):
        if Path(frame.filename).is_relative_to(folder):
            found = f"{_short(frame.filename, folder)}:{frame.lineno}"
    return found


def _short(filename: str, folder: Path) -> str:
    path = Path(filename)
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else path.name
