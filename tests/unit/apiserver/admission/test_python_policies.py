"""Python policies through a whole API server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kybern.policies.offline import Inline
from kybern.testing import api_server
from kybern.testing.api_server import Answer, Api
from kybern.testing.webhooks import FakeWebhooks

MAPS = "/api/v1/namespaces/default/configmaps"
HEAD = """\
from kybern.api.autoscaling_v1 import HorizontalPodAutoscaler
from kybern.api.autoscaling_v1 import Scale
from kybern.api.core_v1 import ConfigMap, Pod
from kybern.policies import Request, admission

"""


def run(folder: Path, text: str, scenario: Any, **options: Any) -> Any:
    (folder / "policy.py").write_text(HEAD + text)
    return api_server.run(scenario, policies=Inline(folder), **options)


def config_map(name: str = "one", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def created(folder: Path, text: str, body: Any = None) -> Answer:
    """A config map created past the policies."""

    async def scenario(api: Api) -> Answer:
        return await api.create(MAPS, body or config_map(a="b"))

    answer: Answer = run(folder, text, scenario)
    return answer


def test_a_refusal_says_which_policy_and_why(tmp_path: Path) -> None:
    text = """
@admission.validate
def both(cm: ConfigMap):
    yield "one"
    yield "two"

@admission.validate
def third(cm: ConfigMap):
    return "three"
"""
    answer = created(tmp_path, text)
    said = 'policy "both": one; policy "both": two; policy "third": three'
    assert (answer.status, answer.json["message"]) == (403, f'configmaps "one" is forbidden: {said}')
    causes = [c["message"] for c in answer.json["details"]["causes"]]
    assert causes == ['policy "both": one', 'policy "both": two', 'policy "third": three']


def test_a_policy_that_fails_refuses_and_says_where(tmp_path: Path) -> None:
    answer = created(tmp_path, "@admission.validate\ndef broken(cm: ConfigMap):\n    return cm.data['no']\n")
    said = 'configmaps "one" is forbidden: policy "broken" failed: policy.py:8: KeyError: \'no\''
    assert (answer.status, answer.json["message"]) == (403, said)


def test_a_policy_that_fails_open_warns(tmp_path: Path) -> None:
    text = "@admission.validate(fails_open=True)\ndef hopes(cm: ConfigMap):\n    1 / 0\n"
    answer = created(tmp_path, text)
    assert answer.status == 201
    said = 'policy "hopes" failed and was passed over: policy.py:8: ZeroDivisionError: division by zero'
    assert answer.warnings == [said.replace('"', '\\"')]


def test_a_change_is_stored_and_a_broken_one_is_refused(tmp_path: Path) -> None:
    text = "@admission.mutate\ndef add(cm: ConfigMap):\n    cm.data['x'] = 'y'\n"
    assert created(tmp_path, text).ok()["data"] == {"a": "b", "x": "y"}
    text = "@admission.mutate\ndef rename(cm: ConfigMap):\n    cm.metadata.labels['a b'] = 'c'\n"
    assert created(tmp_path, text).status == 422
    text = "@admission.mutate\ndef other(cm: ConfigMap):\n    cm.kind = 'Secret'\n"
    answer = created(tmp_path, text)
    assert (answer.status, "made an object that is not one" in answer.json["message"]) == (403, True)


def test_warnings_of_a_policy_reach_the_client(tmp_path: Path) -> None:
    text = "@admission.validate\ndef warns(cm: ConfigMap, request: Request):\n    request.warn('careful')\n"
    assert created(tmp_path, text).warnings == ["careful"]


def test_operations_and_old_objects_are_told(tmp_path: Path) -> None:
    text = """
@admission.validate(operations="*")
def only_grows(cm: ConfigMap, request: Request):
    if request.operation == "UPDATE" and len(cm.data) < len(request.old.data):
        return "shrinks"
    if request.operation == "DELETE":
        return f"keeps {cm.metadata.name}"
"""

    async def scenario(api: Api) -> None:
        (await api.create(MAPS, config_map(a="b"))).ok()
        assert (await api.update(f"{MAPS}/one", config_map())).json["message"].endswith("shrinks")
        (await api.update(f"{MAPS}/one", config_map(a="c", b="d"))).ok()
        assert (await api.delete(f"{MAPS}/one")).json["message"].endswith("keeps one")

    run(tmp_path, text, scenario)


def test_an_object_comes_in_the_version_that_the_annotation_names(tmp_path: Path) -> None:
    text = """
@admission.mutate
def busy(hpa: HorizontalPodAutoscaler):
    assert hpa.apiVersion == "autoscaling/v1"
    hpa.spec.targetCPUUtilizationPercentage = 42
"""

    async def scenario(api: Api) -> None:
        target = {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}
        body = {"metadata": {"name": "h"}, "spec": {"scaleTargetRef": target, "maxReplicas": 3}}
        made = (await api.create("/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers", body)).ok()
        assert made["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 42

    run(tmp_path, text, scenario)


def test_subresources_and_connections_are_named(tmp_path: Path) -> None:
    text = """
@admission.validate("pods/exec", operations="CONNECT")
def no_shells(options: dict, request: Request):
    if options.get("command") == ["sh"]:
        return f"no shell in {request.name}"

@admission.validate("deployments.apps/scale")
def modest(scale: Scale):
    return "too many" if scale.spec.replicas > 3 else None
"""

    async def scenario(api: Api) -> None:
        await api.create("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
        pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        (await api.create("/api/v1/namespaces/default/pods", pod)).ok()
        answer = await api.request("POST", "/api/v1/namespaces/default/pods/p/exec?command=sh&container=c&stdout=1")
        assert (answer.status, answer.json["message"][-13:]) == (403, "no shell in p")
        target = "/apis/apps/v1/namespaces/default/deployments"
        template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        spec = {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template}
        (await api.create(target, {"metadata": {"name": "d"}, "spec": spec})).ok()
        assert (await api.patch(f"{target}/d/scale", {"spec": {"replicas": 4}})).status == 403
        assert (await api.patch(f"{target}/d/scale", {"spec": {"replicas": 3}})).status == 200

    run(tmp_path, text, scenario)


def test_a_namespace_lends_its_labels(tmp_path: Path) -> None:
    text = "@admission.validate\ndef env(cm: ConfigMap, r: Request):\n    return r.namespace_labels.get('env')\n"

    async def scenario(api: Api) -> None:
        (await api.create(MAPS, config_map("a"))).ok()
        await api.patch("/api/v1/namespaces/default", {"metadata": {"labels": {"env": "prod"}}})
        assert (await api.create(MAPS, config_map("b"))).json["message"].endswith('"env": prod')

    run(tmp_path, text, scenario)


def test_policies_judge_what_webhooks_made(tmp_path: Path) -> None:
    text = "@admission.validate\ndef strict(cm: ConfigMap):\n    return cm.data.get('x')\n"

    async def scenario(api: Api) -> Answer:
        hook = {
            "name": "w.hooks.example",
            "clientConfig": {"url": "https://hooks.example/w"},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["*"]}],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }
        body = {"metadata": {"name": "c"}, "webhooks": [hook]}
        (await api.create("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations", body)).ok()
        return await api.create(MAPS, config_map())

    def add(review: dict[str, Any]) -> dict[str, Any]:
        response = {
            "uid": review["request"]["uid"],
            "allowed": True,
            "patchType": "JSONPatch",
            "patch": "W3sib3AiOiJhZGQiLCJwYXRoIjoiL2RhdGEiLCJ2YWx1ZSI6eyJ4IjoieSJ9fV0=",  # data: {x: y}
        }
        return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}

    answer = run(tmp_path, text, scenario, webhooks=FakeWebhooks({"https://hooks.example/w": add}))
    assert answer.json["message"].endswith('policy "strict": y')


@pytest.mark.parametrize("text", ["", "@admission.validate\ndef pods_only(pod: Pod):\n    return 'no'\n"])
def test_writes_that_no_policy_wants_pass(tmp_path: Path, text: str) -> None:
    assert created(tmp_path, text).status == 201
