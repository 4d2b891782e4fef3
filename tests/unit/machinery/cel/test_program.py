"""Expressions end to end: text to value, and what is said of wrong ones."""

from __future__ import annotations

from typing import Any

import pytest

from kybern.machinery import cel
from kybern.machinery.cel import schema_types, schema_values

ENVIRONMENT = cel.Environment({"self": cel.DYN, "n": cel.INT, "s": cel.STRING})
INPUTS = {"self": {"list": [1, 2, 3], "map": {"x": "y"}, "null": None}, "n": 5, "s": "hello"}

VALUES: list[tuple[str, Any]] = [
    ("1 + 2 * 3", 7),
    ("n > 4 && s == 'hello'", True),
    ("self.list.all(x, x > 0)", True),
    ("self.list.exists(x, x == 2)", True),
    ("self.list.exists_one(x, x > 2)", True),
    ("self.list.map(x, x * 2)", [2, 4, 6]),
    ("self.list.map(x, x > 1, x * 2)", [4, 6]),
    ("self.list.filter(x, x > 1)", [2, 3]),
    ("self.list.all(i, v, v == i + 1)", True),
    ("self.list.transformList(i, v, i + v)", [1, 3, 5]),
    ("[3, 4].transformMap(i, v, v * 2)", {0: 6, 1: 8}),
    ("{'a': 1}.transformMapEntry(k, v, {string(v): k})", {"1": "a"}),
    ("has(self.map.x) && !has(self.map.z)", True),
    ("self.map.?z.orValue('none')", "none"),
    ("self.?map.?x.optMap(v, v + '!').value()", "y!"),
    ("optional.of(n).optMap(x, x + x).value()", 10),
    ("1 / 0 > 1 || true", True),
    ("false && 1 / 0 > 1", False),
    ("dyn(1) == 1.0 && dyn(1u) == 1 && !(dyn(true) == 1)", True),
    ("1 in [1, 2] && 'a' in {'a': 1}", True),
    ("type(timestamp('2020-01-01T00:00:00Z')) == google.protobuf.Timestamp", True),
    ("timestamp('2020-03-01T00:00:00Z') - duration('24h') == timestamp('2020-02-29T00:00:00Z')", True),
    ("'%s has %d'.format([['a', 'b'], 2])", '["a", "b"] has 2'),
    ("'a,b,c'.split(',').join('-')", "a-b-c"),
    ("'abc 123'.find('[0-9]+')", "123"),
    ("[1, 3, 2].isSorted() || [1, 3, 2].max() == 3", True),
    ("quantity('1Gi').isGreaterThan(quantity('500Mi'))", True),
    ("cidr('10.0.0.0/8').containsIP('10.1.2.3')", True),
    ("ip('::1').family()", 6),
    ("url('https://example.com:80/p?k=v').getQuery()", {"k": ["v"]}),
    ("semver('1.2.3').isLessThan(semver('v1.10', true))", True),
    ("sets.contains([1, 2], [2])", True),
    ("format.dns1123Label().validate('Bad').hasValue()", True),
    ("size('ä😀')", 2),
    ("-9223372036854775808 < 0", True),
]

FAULTS = [
    ("foo", "ERROR: <input>:1:1: undeclared reference to 'foo' (in container '')\n | foo\n | ^"),
    ("n + s", "found no matching overload for '_+_' applied to '(int, string)'"),
    ("s.size(1)", "found no matching overload for 'size' applied to 'string.(int)'"),
    ("n.x", "ERROR: <input>:1:2: type 'int' does not support field selection"),
    ("1 +", "ERROR: <input>:1:4: Syntax error: mismatched input '<EOF>' expecting"),
    ("for", "reserved identifier: for"),
    ("[1, 'a']", "expected type 'int' but found 'string'"),
    ("has(n)", "invalid argument to has() macro"),
    ("n.all(x, true)", "expression of type 'int' cannot be range of a comprehension"),
    ("9223372036854775808", "invalid int literal"),
    ("(" * 5000 + "1" + ")" * 5000, "recursion limit exceeded"),
    ("1" + "+1" * 5000, "recursion limit exceeded"),
]

FAILURES = [
    ("self.absent", "no such key: absent"),
    ("self.list[7]", "index out of bounds: 7"),
    ("1 / (n - 5)", "division by zero"),
    ("9223372036854775807 + n", "integer overflow"),
    ("self.map > 1", "no such overload"),
    ("self.list.all(x, x)", "no such overload"),
    ("duration(s) == duration('1s')", "type conversion error from 'string' to 'google.protobuf.Duration'"),
    ("s.matches(s + '(')", "error parsing regexp: missing closing )"),
]


@pytest.mark.parametrize(("text", "wanted"), VALUES)
def test_an_expression_has_its_value(text: str, wanted: Any) -> None:
    assert cel.compile(text, ENVIRONMENT).evaluate(INPUTS) == wanted


@pytest.mark.parametrize(("text", "message"), FAULTS)
def test_a_text_that_is_no_program_is_refused_in_upstreams_words(text: str, message: str) -> None:
    with pytest.raises(cel.CelError) as caught:
        cel.compile(text, ENVIRONMENT)
    assert message in str(caught.value)


@pytest.mark.parametrize(("text", "message"), FAILURES)
def test_an_evaluation_that_fails_says_why(text: str, message: str) -> None:
    with pytest.raises(cel.EvaluationError) as caught:
        cel.compile(text, ENVIRONMENT).evaluate(INPUTS)
    assert message in str(caught.value)


def doubled(what: str) -> str:
    """A value and itself, forty times over."""
    text = f"optional.of({what})"
    for _ in range(40):
        text += ".optMap(x, x + x)"
    return text + ".hasValue()"


BOMBS = [
    "self.l.all(a, self.l.all(b, self.l.all(c, self.l.all(d, a + b + c + d >= 0))))",
    "self.l.map(a, self.l.map(b, self.l.map(c, [a, b, c]))).size() > 0",
    doubled("self.s"),
    doubled("self.l"),
    "self.s.replace('a', self.s).replace('a', self.s).replace('a', self.s) == ''",
    "self.l.all(a, self.deep == self.deep)",
    "self.l.all(a, '%s'.format([self.deep]) != '')",
    "lists.range(100000000).size() > 0",
]


HEAVY = {"l": list(range(200)), "s": "a" * 1000, "deep": [[list(range(100))] * 100] * 10}


@pytest.mark.parametrize("text", BOMBS)
def test_a_cost_bomb_is_ended(text: str) -> None:
    program = cel.compile(text, ENVIRONMENT)
    budget = cel.Budget(per_call=200_000)
    with pytest.raises(cel.CostExceeded, match="operation cancelled: actual cost limit exceeded"):
        program.evaluate(
            {"self": {"l": list(range(200)), "s": "a" * 1000, "deep": [[list(range(100))] * 100] * 10}}, budget
        )


def test_programs_share_a_budget() -> None:
    budget = cel.Budget(remaining=100)
    program = cel.compile("self.list.all(x, x > 0)", ENVIRONMENT)
    program.evaluate(INPUTS, budget)
    assert 0 < budget.remaining < 100
    with pytest.raises(cel.CostExceeded):
        for _ in range(100):
            program.evaluate(INPUTS, budget)


SCHEMA = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "replicas": {"type": "integer"},
                "namespace": {"type": "string"},
                "a-b": {"type": "string"},
                "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                "at": {"type": "string", "format": "date-time"},
                "amounts": {"type": "object", "additionalProperties": {"type": "number"}},
                "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "port": {"x-kubernetes-int-or-string": True},
            },
        }
    },
}
OBJECT = {
    "metadata": {"name": "x"},
    "spec": {
        "replicas": 3,
        "namespace": "n",
        "a-b": "q",
        "set": ["a", "b"],
        "at": "2020-01-01T00:00:00Z",
        "amounts": {"x": 1},
        "any": {"z": [1]},
        "port": 5,
    },
}


@pytest.mark.parametrize(
    "text",
    [
        "self.spec.replicas > 2",
        "self.spec.__namespace__ == 'n' && self.spec.a__dash__b == 'q'",
        "self.spec.set == ['b', 'a']",
        "self.spec.set + ['b', 'c'] == ['a', 'b', 'c']",
        "self.spec.at < timestamp('2021-01-01T00:00:00Z')",
        "self.spec.amounts['x'] == 1.0 && self.spec.amounts.x == 1.0",
        "self.spec.any.z[0] == 1",
        "self.spec.port == 5 && type(self.spec.port) == int",
        "self.metadata.name == 'x' && !has(self.metadata.generateName)",
        "self.?spec.?replicas.orValue(0) == 3",
    ],
)
def test_an_object_is_read_by_its_schema(text: str) -> None:
    declared = schema_types.declare(SCHEMA, is_root=True)
    assert declared is not None
    environment = cel.Environment({"self": declared.type}, declared.objects)
    assert cel.compile(text, environment).evaluate({"self": schema_values.adapt(OBJECT, declared.schema)}) is True


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("self.spec.absent", "ERROR: <input>:1:10: undefined field 'absent'\n | self.spec.absent\n | .........^"),
        ("self.spec.replicas == 'a'", "found no matching overload for '_==_' applied to '(int, string)'"),
        ("self.metadata.labels", "undefined field 'labels'"),
    ],
)
def test_a_rule_is_checked_against_the_schema(text: str, message: str) -> None:
    declared = schema_types.declare(SCHEMA, is_root=True)
    assert declared is not None
    with pytest.raises(cel.CelError) as caught:
        cel.compile(text, cel.Environment({"self": declared.type}, declared.objects))
    assert message in str(caught.value)
