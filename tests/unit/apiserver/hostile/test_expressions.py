"""Expressions and patterns that would cost without end: refused when they are written, or stopped when they run."""

from __future__ import annotations

from typing import Any

import pytest

from kybern.machinery import cel
from kybern.machinery.cel import types
from kybern.testing import api_server
from kybern.testing.api_server import Answer, Api

pytestmark = pytest.mark.thorough

SECONDS = 10.0  # of processor time, on however slow a machine
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
WIDGETS = "/apis/example.com/v1/namespaces/default/widgets"
NUMBERS = cel.Environment({"xs": types.list_of(types.INT), "s": types.STRING})
BOMBS = {
    "loops in loops": "xs.all(a, xs.all(b, xs.all(c, xs.all(d, a + b + c + d >= 0))))",
    "a list that grows": "xs.map(a, xs.map(b, xs.map(c, xs)))",
    "a text that grows": "xs.map(a, s + s + s + s).all(t, xs.map(b, t + t).size() > 0)",
    "a pattern of repetitions": "xs.all(a, s.matches('^(a+)+$') || true)",
    "parts of a text": "xs.all(a, s.split('').size() > 0)",
    "replacing in loops": "xs.all(a, xs.all(b, s.replace('a', 'aa').size() > 0))",
}


@pytest.mark.parametrize("name", BOMBS)
def test_an_expression_stops_when_its_cost_is_spent(name: str) -> None:
    import time

    program = cel.compile(BOMBS[name], NUMBERS)
    began = time.process_time()
    with pytest.raises((cel.CostExceeded, cel.EvaluationError)):
        program.evaluate({"xs": list(range(2_000)), "s": "a" * 100_000 + "!"})
    assert time.process_time() - began < SECONDS


@pytest.mark.parametrize(
    "text",
    [
        "(" * 5_000 + "1" + ")" * 5_000,
        "[" * 2_000,
        "1" + "+1" * 40_000,
        "a" * 200_000,
        "true ? " * 3_000 + "true" + " : true" * 3_000,
        "xs" + ".map(x, x)" * 2_000,
        "'\\ud800'",
        "\x00",
    ],
)
def test_an_expression_that_is_too_much_is_refused(text: str) -> None:
    with pytest.raises((cel.CelError, cel.CostExceeded, cel.EvaluationError)):
        cel.compile(text, NUMBERS).evaluate({"xs": [1], "s": "a"})


def definition(schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": schema}}},
                }
            ],
        },
    }


def post(schema: dict[str, Any], spec: Any) -> tuple[Answer, Answer | None]:
    """The answers to a definition and to an object of it."""

    async def scenario(api: Api) -> tuple[Answer, Answer | None]:
        made = await api.create(DEFINITIONS, definition(schema))
        if made.status != 201:
            return made, None
        widget = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a"}, "spec": spec}
        return made, await api.create(WIDGETS, widget)

    return api_server.run(scenario)


@pytest.mark.parametrize(
    "pattern", ["^(a+)+$", "(a|aa)+$", "(a|a?)+$", "([a-zA-Z]+)*$", "(.*a){20}", "^(([a-z])+.)+[A-Z]([a-z])+$"]
)
def test_a_pattern_that_would_never_end_ends(pattern: str) -> None:
    made, widget = post({"type": "string", "pattern": pattern}, "a" * 50_000 + "!")
    assert made.status in (201, 422)
    for answer in filter(None, (made, widget)):
        assert answer.seconds < SECONDS
        assert answer.status < 500


@pytest.mark.parametrize(
    "pattern", ["(", "[", "(?<n>a)(?P=n)", "(a)\\1", "(?=a)", "a{100000}", "((((a{9}){9}){9}){9}){9}", "\\"]
)
def test_a_pattern_that_is_none_is_no_fault_of_the_server(pattern: str) -> None:
    made, widget = post({"type": "string", "pattern": pattern}, "a")
    assert made.status in (201, 422)
    assert widget is None or widget.status in (201, 404, 422)


def test_a_rule_of_a_custom_resource_that_costs_too_much_is_refused_or_stopped() -> None:
    items = {"type": "array", "items": {"type": "string"}}
    rule = [{"rule": "self.all(a, self.all(b, self.all(c, a + b + c != 'x')))"}]
    made, widget = post({**items, "x-kubernetes-validations": rule}, ["a"] * 2_000)
    assert made.status in (201, 422)
    assert widget is None or widget.status in (422, 404)
    assert all(answer.seconds < SECONDS for answer in filter(None, (made, widget)))
