"""Texts made of the recorded ones, spliced and broken: every one ends in a value or in one of the three errors."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from kybern.machinery import cel
from kybern.machinery.cel import estimate, schema_types, schema_values

RECORDED = json.loads((Path(__file__).parent / "answers.json").read_text())
TEXTS = [r["text"] for r in RECORDED["answers"]]
WORDS = [*sorted({word for text in TEXTS for word in text.split()}), "\x00", "é", "`", "$", "@", "'''", "0x", "1e"]
OPERATORS = ["+", "==", "&&", "||", "<", "in", "?", "-", "*", "/", "%"]


def made(dice: random.Random) -> str:
    text = dice.choice(TEXTS)
    kind = dice.random()
    if kind < 0.4:
        words = text.split(" ")
        words.insert(dice.randrange(len(words) + 1), dice.choice(WORDS))
        if dice.random() < 0.5:
            del words[dice.randrange(len(words))]
        return " ".join(words)
    other = dice.choice(TEXTS)
    if kind < 0.6:
        return f"({text}) {dice.choice(OPERATORS)} ({other})"
    if kind < 0.8:
        return f"({text}){dice.choice(['.map(x, ', '.all(x, ', '.exists(i, x, ', '['])}{other}{dice.choice([')', ']'])}"
    return text.replace(dice.choice(["self.i", "self.s", "self.list", "1", "x"]), f"({other})")


@pytest.mark.parametrize("seed", range(4))
def test_no_text_ends_otherwise_than_in_a_value_or_an_error(seed: int) -> None:
    declared = schema_types.declare(RECORDED["schema"])
    assert declared is not None
    typed = (
        cel.Environment({"self": declared.type}, declared.objects),
        schema_values.adapt(RECORDED["object"], declared.schema),
    )
    untyped = cel.Environment({"self": cel.DYN}), RECORDED["object"]
    dice = random.Random(seed)
    values = 0
    for _ in range(300):
        text = made(dice)
        for environment, value in (typed, untyped):
            try:
                program = cel.compile(text, environment)
                estimate.cost_of(program.node, declared.schema)
                program.evaluate({"self": value}, cel.Budget(per_call=50_000))
                values += 1
            except (cel.CelError, cel.EvaluationError, cel.CostExceeded) as error:
                assert str(error), text
    assert values > 50


@pytest.mark.parametrize(
    "text", ["self in self", "{} in {}", "[[]] in {1: 2}", "{1.5: 2}[1.5]", "{null: 1}[dyn(null)]"]
)
def test_what_is_no_key_is_not_found(text: str) -> None:
    try:
        cel.compile(text, cel.Environment({"self": cel.DYN})).evaluate({"self": {"a": 1}})
    except (cel.CelError, cel.EvaluationError) as error:
        assert str(error)
