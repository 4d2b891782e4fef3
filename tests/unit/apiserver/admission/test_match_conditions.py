"""Match conditions over a real write."""

from __future__ import annotations

from typing import Any

import pytest

from kybern.api.admissionregistration_v1 import MatchCondition
from kybern.api.core_v1 import ConfigMap, Namespace
from kybern.api.meta_v1 import ObjectMeta
from kybern.apiserver.admission import Attributes
from kybern.apiserver.admission.expressions import Sight
from kybern.apiserver.admission.match_conditions import MatchConditions, Verdict
from kybern.apiserver.authorize.chain import Authorizers
from kybern.apiserver.request import User
from kybern.machinery import scheme
from kybern.testing.objects import ObjectTable

CONFIG_MAPS = scheme.resource_for("", "v1", "configmaps")
JANE = User("jane", groups=("devs", "system:authenticated"), extra={"team": ("a",)})


def sight(**more: Any) -> Sight:
    reader = ObjectTable(Namespace(metadata=ObjectMeta(name="ns", labels={"env": "prod"})))
    found = ConfigMap(metadata=ObjectMeta(name="x", namespace="ns", labels={"a": "b"}), data={"k": "v"})
    fields: dict[str, Any] = {"object": found, "old": None, "name": "x", "user": JANE, **more}
    return Sight(Attributes("CREATE", CONFIG_MAPS, "", "ns", **fields), CONFIG_MAPS, reader, Authorizers(reader))


def judge(*texts: str, **more: Any) -> Verdict:
    return MatchConditions([MatchCondition(name=f"c{i}", expression=t) for i, t in enumerate(texts)]).evaluate(
        sight(**more)
    )


@pytest.mark.parametrize(
    "text",
    [
        "object.metadata.labels['a'] == 'b' && object.data.k == 'v' && object.kind == 'ConfigMap'",
        "oldObject == null",
        "request.operation == 'CREATE' && request.name == 'x' && request.namespace == 'ns'",
        "request.kind.kind == 'ConfigMap' && request.resource.resource == 'configmaps' && request.kind.group == ''",
        "request.userInfo.username == 'jane' && 'devs' in request.userInfo.groups",
        "request.userInfo.extra['team'] == ['a'] && !request.dryRun",
        "!has(request.subResource) && request.options.kind == 'CreateOptions'",
        "!authorizer.group('').resource('configmaps').namespace('ns').check('delete').allowed()",
        "!authorizer.requestResource.check('create').allowed()",
        "!authorizer.path('/healthz').check('get').allowed()",
        "!authorizer.serviceAccount('ns', 'default').group('').resource('pods').check('get').allowed()",
    ],
)
def test_a_condition_sees_the_write(text: str) -> None:
    assert judge(text) == Verdict(True)


def test_masters_are_allowed_everything() -> None:
    master = User("root", groups=("system:masters",))
    assert judge("authorizer.requestResource.check('delete').allowed()", user=master).matches


def test_one_that_is_false_decides_even_beside_errors() -> None:
    assert judge("object.absent == 1", "false") == Verdict(False, failed="c1")


def test_an_error_is_told_with_its_expression() -> None:
    verdict = judge("true", "object.absent == 1")
    assert not verdict.matches
    assert verdict.errors == ("expression 'object.absent == 1' resulted in error: no such key: absent",)


def test_conditions_share_a_budget() -> None:
    check = "[1,2,3].all(x, !authorizer.path('/x').check('get').allowed())"
    verdict = judge(check)
    assert "cost limit" in verdict.errors[0]
