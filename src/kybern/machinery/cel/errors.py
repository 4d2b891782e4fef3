"""What can be wrong with an expression: its text (CelError), or its evaluation (EvaluationError, CostExceeded).

Raised by parser, checker and evaluate; the messages are those that clients know from upstream.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Issue:
    """One fault in a text. `offset` counts characters; -1 where the whole text is meant."""

    offset: int
    message: str


class CelError(ValueError):
    """A text that is no program. `str()` is `ERROR: <input>:1:5: ...` with the line and a mark under the place."""

    def __init__(self, text: str, issues: list[Issue]) -> None:
        self.issues = issues
        super().__init__("\n".join(render(text, issue) for issue in issues))


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
