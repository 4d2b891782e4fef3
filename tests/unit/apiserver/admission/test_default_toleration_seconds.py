from __future__ import annotations

import pytest

from kybern.api import codec
from kybern.api.core_v1 import Toleration
from kybern.testing.gate import Gate, pod

NOT_READY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"


def test_a_pod_stays_five_minutes_on_a_lost_node() -> None:
    assert codec.to_json(Gate().create(pod()).spec.tolerations) == [
        {"effect": "NoExecute", "key": key, "operator": "Exists", "tolerationSeconds": 300}
        for key in (NOT_READY, UNREACHABLE)
    ]


@pytest.mark.parametrize(
    ("toleration", "added"),
    [
        (Toleration(key=NOT_READY, operator="Exists", effect="NoExecute", tolerationSeconds=5), [UNREACHABLE]),
        (Toleration(key=NOT_READY, operator="Exists"), [UNREACHABLE]),
        (Toleration(key=NOT_READY, operator="Exists", effect="NoSchedule"), [NOT_READY, UNREACHABLE]),
        (Toleration(operator="Exists"), []),
        (Toleration(key="other", operator="Exists"), [NOT_READY, UNREACHABLE]),
    ],
)
def test_what_the_pod_says_itself_counts(toleration: Toleration, added: list[str]) -> None:
    made = Gate().create(pod(tolerations=[toleration]))
    assert [t.key for t in made.spec.tolerations[1:]] == added


def test_an_update_is_completed_too_and_only_once() -> None:
    gate = Gate()
    once = gate.create(pod())
    assert gate.update(once, once).spec.tolerations == once.spec.tolerations
