"""What can be wrong with an expression: its text (CelError), or its evaluation (EvaluationError, CostExceeded).

Raised by parser, checker and evaluate; the messages are those that clients know from upstream.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Issue:
    """One fault in a text. `offset` counts characters; -1 where the whole text is meant."""

    offset: int
    message: str


class CelError(ValueError):
    """A text that is no program. `str()` is `ERROR: <input>:1:5: ...` with the line and a mark under the place.

    `reported` is what upstream's API server says of it.
    """

    phase = "compilation failed"
    type: Any = None  # of the expression, where it is known all the same (InstantiationError)

    def __init__(self, text: str, issues: list[Issue]) -> None:
        self.issues = issues
        super().__init__("\n".join(render(text, issue) for issue in issues))

    @property
    def reported(self) -> str:
        return f"{self.phase}: {self}"


class Worded(CelError):
    """A fault whose message is complete."""

    def __init__(self, message: str) -> None:
        self.issues = []
        ValueError.__init__(self, message)


class InstantiationError(Worded):
    """A well-typed text whose constants have no value: `int('x')`."""

    phase = "program instantiation failed"


class Faulty(Exception):
    """A text that the grammar does not allow. Google's parser words it."""

    def __init__(self, issue: Issue) -> None:
        self.issue = issue
        super().__init__(issue.message)


class EvaluationError(Exception):
    """A program that has no value for these inputs. `||`, `&&` and macros may absorb it."""


class CostExceeded(Exception):
    """The evaluation was ended: it would cost more than it may. Nothing in the program absorbs it."""

    def __init__(self) -> None:
        super().__init__("operation cancelled: actual cost limit exceeded")


def no_overload() -> EvaluationError:
    return EvaluationError("no such overload")


def render(text: str, issue: Issue) -> str:
    if issue.offset < 0:
        return f"ERROR: <input>:-1:0: {issue.message}"
    offset = min(issue.offset, len(text))
    start = text.rfind("\n", 0, offset) + 1
    end = text.find("\n", offset)
    line = text[start : end if end >= 0 else len(text)]
    number = text.count("\n", 0, offset) + 1
    column = offset - start
    head = f"ERROR: <input>:{number}:{column + 1}: {issue.message}"
    # Wide characters get a wide dot, so that the mark stands under its place in a terminal.
    dots = "".join("." if ord(c) < 0x80 else "．" for c in line[:column]).ljust(column, ".")
    mark = "^" if column >= len(line) or ord(line[column]) < 0x80 else "＾"
    return f"{head}\n | {line}\n | {dots}{mark}"
