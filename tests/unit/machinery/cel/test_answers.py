"""What a kube-apiserver v1.36 answered to some 700 expressions, as rules of a custom resource.

answers.json holds the schema, the object, and for each text what was said: `refused` (when the definition was created),
`fails` (when the object was), or the `value` as `'%s'.format([...])` shows it; none of these: fine, and not shown.
`dear`: refused for its estimated cost.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kybern.machinery import cel
from kybern.machinery.cel import schema_types, schema_values
from kybern.machinery.cel.library import string_format

RECORDED = json.loads((Path(__file__).parent / "answers.json").read_text())
DECLARED = schema_types.declare(RECORDED["schema"])
assert DECLARED is not None
ENVIRONMENT = cel.Environment({"self": DECLARED.type}, DECLARED.objects)


def answer(text: str) -> dict[str, str]:
    """Ours, in the form of the recorded one."""
    assert DECLARED is not None
    try:
        program = cel.compile(text, ENVIRONMENT)
    except cel.CelError as error:
        return {"refused": error.reported}
    try:
        value = program.evaluate({"self": schema_values.adapt(RECORDED["object"], DECLARED.schema)})
    except cel.EvaluationError as error:
        return {"fails": str(error)}
    try:
        return {"value": string_format.formatted("%s", [value])}
    except cel.EvaluationError:
        return {}


def is_as_recorded(ours: dict[str, str], wanted: dict[str, Any]) -> bool:
    if not wanted or "dear" in wanted:  # only known to be well-formed
        return not ours.keys() & {"refused", "fails"}
    return ours == wanted


@pytest.mark.parametrize("part", range(4))
def test_expressions_are_answered_as_upstream_does(part: int) -> None:
    wrong = []
    for recorded in RECORDED["answers"][part::4]:
        ours, wanted = answer(recorded["text"]), {key: value for key, value in recorded.items() if key != "text"}
        if not is_as_recorded(ours, wanted):
            wrong.append((recorded["text"], ours, wanted))
    assert wrong == []
