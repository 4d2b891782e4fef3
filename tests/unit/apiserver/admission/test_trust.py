"""Who may speak for a signer: bundles of its authorities, and answers to requests of pods."""

import json
from pathlib import Path

import pytest

from kybern.apiserver.request import User
from kybern.machinery import feature_gates
from kybern.testing import api_server

RECORDED = Path(__file__).parents[2] / "machinery" / "validation" / "certificates.jsonl"
CASES = [json.loads(line) for line in RECORDED.read_text().splitlines()]
BUNDLES = "/apis/certificates.k8s.io/v1beta1/clustertrustbundles"
REQUESTS = "/apis/certificates.k8s.io/v1beta1/namespaces/default/podcertificaterequests"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
WRITER, ATTESTER, OWNER = (User(name, groups=("system:authenticated",)) for name in ("writer", "attester", "owner"))
NODE, OTHER = (User(f"system:node:{n}", groups=("system:nodes", "system:authenticated")) for n in ("n1", "n2"))
BETA = {"runtime_config": "api/beta=true"}  # as a server is asked to serve them
ANCHOR = next(c["object"]["spec"]["trustBundle"] for c in CASES if c["case"] == "ok" and c["verb"] == "create")
STUB = next(c["object"]["spec"]["stubPKCS10Request"] for c in CASES if c["case"] == "stub")


async def grant(api, name, user, rule):
    await api.create(f"{RBAC}/clusterroles", {"metadata": {"name": name}, "rules": [rule]})
    who = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user.name}
    role = {"kind": "ClusterRole", "apiGroup": "rbac.authorization.k8s.io", "name": name}
    await api.create(f"{RBAC}/clusterrolebindings", {"metadata": {"name": name}, "roleRef": role, "subjects": [who]})


def rule(verb, *, resources, names=()):
    return {"apiGroups": ["certificates.k8s.io"], "resources": resources, "verbs": [verb], "resourceNames": list(names)}


def bundle(name, signer=None):
    return {"metadata": {"name": name}, "spec": {"trustBundle": ANCHOR, "signerName": signer}}


@pytest.mark.parametrize(
    ("user", "signer", "status"),
    [
        (WRITER, None, 201),
        (WRITER, "example.com/s", 403),
        (ATTESTER, "example.com/s", 201),
        (ATTESTER, "example.com/t", 403),
        (OWNER, "example.com/t", 201),
        (OWNER, "example.org/t", 403),
    ],
)
def test_a_bundle_of_a_signer_needs_the_right_to_attest_for_it(user, signer, status):
    async def scenario(api):
        for who in (WRITER, ATTESTER, OWNER):
            await grant(api, f"write-{who.name}", who, rule("*", resources=["clustertrustbundles"]))
        await grant(api, "one", ATTESTER, rule("attest", resources=["signers"], names=["example.com/s"]))
        await grant(api, "all", OWNER, rule("attest", resources=["signers"], names=["example.com/*"]))
        name = f"{signer.replace('/', ':')}:x" if signer else "x"
        answer = await api.as_user(user).create(BUNDLES, bundle(name, signer))
        if answer.status == 403:
            assert answer.json["message"].endswith(f'user not permitted to attest for signerName "{signer}"')
            await api.create(BUNDLES, bundle(name, signer))
            found = (await api.get(f"{BUNDLES}/{name}")).json
            found["metadata"]["labels"] = {"a": "b"}
            assert (await api.as_user(user).update(f"{BUNDLES}/{name}", found)).status == 403
        return answer.status

    assert api_server.run(scenario, users=[WRITER, ATTESTER, OWNER], options=BETA) == status


def test_bundles_are_selected_by_signer():
    async def scenario(api):
        await api.create(BUNDLES, bundle("x"))
        await api.create(BUNDLES, bundle("example.com:s:x", "example.com/s"))
        found = {}
        for selector in ("spec.signerName=example.com/s", "spec.signerName="):
            items = (await api.get(f"{BUNDLES}?fieldSelector={selector}")).json["items"]
            found[selector] = [item["metadata"]["name"] for item in items]
        return found

    assert api_server.run(scenario, options=BETA) == {
        "spec.signerName=example.com/s": ["example.com:s:x"],
        "spec.signerName=": ["x"],
    }


async def running_pod(api):
    """What a kubelet of n1 knows of a pod of its: the spec of a request for it."""
    nodes = {n: (await api.create("/api/v1/nodes", {"metadata": {"name": n}})).ok() for n in ("n1", "n2")}
    account = (await api.create("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "sa"}})).ok()
    spec = {"nodeName": "n1", "serviceAccountName": "sa", "containers": [{"name": "c", "image": "i"}]}
    pod = (await api.create("/api/v1/namespaces/default/pods", {"metadata": {"name": "p"}, "spec": spec})).ok()
    return {
        "signerName": "example.com/s",
        "podName": "p",
        "podUID": pod["metadata"]["uid"],
        "serviceAccountName": "sa",
        "serviceAccountUID": account["metadata"]["uid"],
        "nodeName": "n1",
        "nodeUID": nodes["n1"]["metadata"]["uid"],
        "stubPKCS10Request": STUB,
    }


@pytest.mark.parametrize(
    ("user", "change", "refusal"),
    [
        (NODE, {}, None),
        (OTHER, {}, 'PodCertificateRequest.Spec.NodeName="n1", which is not the requesting node "n2"'),
        (NODE, {"nodeName": "n2"}, 'PodCertificateRequest.Spec.NodeName="n2", which is not the requesting node "n1"'),
        (OTHER, {"nodeName": "n2"}, "names a pod that is not bound to the requesting node"),
        (NODE, {"podName": "q"}, 'pod "default/q" named in the PodCertificateRequest not found'),
        (NODE, {"podUID": "u"}, 'contains pod UID ("u") which differs from running pod'),
        (NODE, {"serviceAccountName": "default"}, 'that differs from running pod ("sa")'),
        (NODE, {"serviceAccountUID": "u"}, 'names service account UID "u", which differs from that of the running'),
        (NODE, {"nodeUID": "u"}, 'names node UID "u", which differs from that of the running'),
    ],
)
def test_a_node_asks_for_the_pods_it_runs_and_for_no_others(user, change, refusal):
    async def scenario(api):
        spec = await running_pod(api) | change
        answer = await api.as_user(user).create(REQUESTS, {"metadata": {"name": "r"}, "spec": spec})
        if refusal is None:
            answer.ok()
        else:
            assert answer.status == 403
            assert refusal in answer.json["message"]

    api_server.run(scenario, users=[NODE, OTHER], options=BETA)


def test_answers_come_from_who_may_sign():
    message = (
        'PodCertificateRequest.certificates.k8s.io "r" is invalid: spec.signerName: Forbidden: User "writer" is not '
        'permitted to "sign" for signer "example.com/s"'
    )

    async def scenario(api):
        await grant(api, "status", WRITER, rule("*", resources=["podcertificaterequests/status"]))
        made = (await api.create(REQUESTS, {"metadata": {"name": "r"}, "spec": await running_pod(api)})).ok()
        denied = {"type": "Denied", "status": "True", "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        made["status"] = {"conditions": [denied]}
        target = f"{REQUESTS}/r/status"
        refused = await api.as_user(WRITER).update(target, made)
        await grant(api, "sign", WRITER, rule("sign", resources=["signers"], names=["example.com/s"]))
        return refused.json["message"], (await api.as_user(WRITER).update(target, made)).status

    assert api_server.run(scenario, users=[WRITER], options=BETA) == (message, 200)


def test_projections_behind_gates_are_dropped_unless_the_gates_are_open():
    source = {"clusterTrustBundle": {"name": "x", "path": "ca.pem"}}
    volume = {"name": "v", "projected": {"sources": [source]}}
    spec = {"containers": [{"name": "c", "image": "i"}], "volumes": [volume]}

    async def scenario(api):
        await api.create("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
        made = await api.create("/api/v1/namespaces/default/pods", {"metadata": {"name": "p"}, "spec": spec})
        return made.json

    dropped = api_server.run(scenario)
    assert source not in dropped["spec"]["volumes"][0]["projected"]["sources"]
    kept = api_server.run(scenario, options={"gates": feature_gates.parse("ClusterTrustBundleProjection=true")})
    assert source in kept["spec"]["volumes"][0]["projected"]["sources"]


def test_a_kubelet_has_no_other_nodes_certificate_signed():
    recorded = Path(__file__).parents[2] / "controllers" / "signing_requests.jsonl"
    cases = {c["case"]: c["spec"] for c in map(json.loads, recorded.read_text().splitlines())}
    keys = ("request", "signerName", "usages")

    async def scenario(api):
        found = []
        for case, user in (("kk ok", NODE), ("kk ok", OTHER), ("kk badcn", NODE), ("ks ok", OTHER), ("kc ok", NODE)):
            body = {"metadata": {"generateName": "r"}, "spec": {key: cases[case][key] for key in keys}}
            answer = await api.as_user(user).create("/apis/certificates.k8s.io/v1/certificatesigningrequests", body)
            found.append(answer.status)
            if answer.status == 403:
                assert answer.json["message"].endswith(f"can only create a node CSR with CN={user.name}")
        return found

    assert api_server.run(scenario, users=[NODE, OTHER], options=BETA) == [201, 403, 403, 403, 201]
