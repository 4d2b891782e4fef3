from __future__ import annotations

import pytest

from kybern.api import codec
from kybern.api.core_v1 import Node, PodSpec
from kybern.machinery import node_selectors

NODE = codec.decode(Node, b'{"metadata":{"name":"n1","labels":{"zone":"a","cores":"8"}}}')


def spec(required: str) -> PodSpec:
    affinity = '{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[%s]}}}'
    return codec.decode(PodSpec, ('{"affinity":' + affinity % required + "}").encode())


@pytest.mark.parametrize(
    ("expression", "verdict"),
    [
        ('{"key":"zone","operator":"In","values":["a","b"]}', True),
        ('{"key":"zone","operator":"In","values":["b"]}', False),
        ('{"key":"zone","operator":"NotIn","values":["b"]}', True),
        ('{"key":"disk","operator":"NotIn","values":["b"]}', True),
        ('{"key":"zone","operator":"Exists"}', True),
        ('{"key":"disk","operator":"DoesNotExist"}', True),
        ('{"key":"cores","operator":"Gt","values":["4"]}', True),
        ('{"key":"cores","operator":"Lt","values":["8"]}', False),
        ('{"key":"zone","operator":"Gt","values":["4"]}', False),
        ('{"key":"zone","operator":"Near","values":["a"]}', False),
    ],
)
def test_each_operator(expression: str, verdict: bool) -> None:
    assert node_selectors.admits(spec(f'{{"matchExpressions":[{expression}]}}'), NODE) is verdict


def test_one_term_is_enough_and_all_of_its_requirements_count() -> None:
    wrong = '{"matchExpressions":[{"key":"zone","operator":"In","values":["b"]}]}'
    named = '{"matchFields":[{"key":"metadata.name","operator":"In","values":["n1"]}]}'
    assert node_selectors.admits(spec(f"{wrong},{named}"), NODE)
    both = '{"matchExpressions":[{"key":"disk","operator":"Exists"}],' + named[1:]
    assert not node_selectors.admits(spec(both), NODE)


def test_a_term_without_requirements_matches_nothing() -> None:
    assert not node_selectors.admits(spec("{}"), NODE)


def test_the_plain_selector_wants_every_label() -> None:
    assert node_selectors.admits(PodSpec(nodeSelector={"zone": "a"}), NODE)
    assert not node_selectors.admits(PodSpec(nodeSelector={"zone": "a", "disk": "ssd"}), NODE)
