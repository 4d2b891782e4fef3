"""Selectors in reviews: read as a kube-apiserver does (its answers are the source of these)."""

from __future__ import annotations

from typing import Any

import pytest

from kybern.testing import api_server
from kybern.testing.api_server import Api

REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
FIELDS = "spec.resourceAttributes.fieldSelector"
LABELS = "spec.resourceAttributes.labelSelector"


def node_asks(**more: Any) -> Any:
    """The status of a review, or the message of its refusal."""

    async def scenario(api: Api) -> Any:
        attributes = {"verb": "list", "resource": "pods", "version": "v1", **more}
        spec = {"user": "system:node:n1", "groups": ["system:nodes"], "resourceAttributes": attributes}
        answer = (await api.create(REVIEWS, {"spec": spec})).json
        return answer["status"] if answer["kind"] == "SubjectAccessReview" else answer["message"]

    return api_server.run(scenario)


def test_a_node_lists_its_own_pods_however_the_selector_is_said() -> None:
    terms = [{"key": "spec.nodeName", "operator": "In", "values": ["n1"]}]
    assert node_asks(fieldSelector={"rawSelector": "spec.nodeName=n1"})["allowed"]
    assert node_asks(fieldSelector={"requirements": terms})["allowed"]
    assert not node_asks(fieldSelector={"rawSelector": "spec.nodeName=n2"})["allowed"]
    assert not node_asks(verb="get", fieldSelector={"rawSelector": "spec.nodeName=n1"})["allowed"]


@pytest.mark.parametrize(
    ("where", "selector"),
    [
        ("field", {"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["n1", "n2"]}]}),
        ("field", {"requirements": [{"key": "spec.nodeName", "operator": "Exists"}]}),
        ("field", {"requirements": [{"key": "a", "operator": "Foo", "values": ["a"]}]}),
        ("field", {"rawSelector": "a==b=c,,"}),
        ("label", {"rawSelector": "a in (b"}),
    ],
)
def test_a_selector_that_cannot_be_read_selects_everything(where: str, selector: dict[str, Any]) -> None:
    status = node_asks(**{f"{where}Selector": selector})
    assert not status["allowed"]
    assert status["evaluationError"] == f"spec.resourceAttributes.{where}Selector ignored due to parse error"


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (
            {"fieldSelector": {}},
            f"{FIELDS}.requirements: Required value: when {FIELDS} is specified, requirements or rawSelector is",
        ),
        (
            {"fieldSelector": {"requirements": [{"key": "", "operator": "In", "values": ["a"]}]}},
            f"{FIELDS}.requirements[0].key: Required value: must be specified",
        ),
        (
            {"fieldSelector": {"requirements": [{"key": "a", "operator": "In"}]}},
            f"{FIELDS}.requirements[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
        ),
        (
            {
                "fieldSelector": {
                    "rawSelector": "a=b",
                    "requirements": [{"key": "a", "operator": "In", "values": ["b"]}],
                }
            },
            f'{FIELDS}.rawSelector: Invalid value: "a=b": may not specified at the same time as requirements',
        ),
        (
            {"labelSelector": {"requirements": [{"key": "a", "operator": "Exists", "values": ["b"]}]}},
            f"{LABELS}.requirements[0].values: Forbidden: may not be specified when `operator` is 'Exists'",
        ),
    ],
)
def test_a_selector_in_a_wrong_form_is_refused(attributes: dict[str, Any], message: str) -> None:
    assert message in node_asks(**attributes)
