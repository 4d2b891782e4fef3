"""What a v1.36 API server answered to writes of kubelets, in the world of the Node authorizer's questions."""

import json
from pathlib import Path
from string import Template

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kybern.apiserver.request import User
from kybern.testing import api_server

HERE = Path(__file__).parent
WORLD = json.loads((HERE.parent / "authorize" / "node_questions.json").read_text())["world"]
WRITES = [json.loads(line) for line in (HERE / "node_writes.jsonl").read_text().splitlines()]
GROUPS = ("system:nodes", "system:authenticated")
KUBELETS = {name: User(name, groups=GROUPS) for name in sorted({write["user"] for write in WRITES}) if name}
KEY = ec.generate_private_key(ec.SECP256R1()).private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)

# Answers that differ, and why.
_UNBOUND = "upstream stops at the first claim without a volume, and says so; the answer is the same"
DIFFERENT = {
    "podcidr": "where this was recorded, a controller had given the node a range",
    "status taint": "a write to status leaves the spec alone before it is judged",
    "create noname": "a name is generated before it is judged",
    "create own bad label": "a name that is taken is told first",
    "create own restr label": "a name that is taken is told first",
    "create configsource": "the field is dropped",
    "mirror projected token": "what is wrong with the pod is told first",
    "status ext": "what is wrong with the status is told first",
    "token ok": _UNBOUND,
    "token aud bad": _UNBOUND,
    "token api aud": _UNBOUND,
}


async def answers(api):
    for target, obj in WORLD:
        (await api.create(target, obj)).ok()
    uids = {}
    for target in (
        "/api/v1/nodes/n1",
        "/api/v1/nodes/n2",
        "/api/v1/namespaces/ns/pods/p1",
        "/api/v1/namespaces/ns/pods/p2",
    ):
        uids[target.rpartition("/")[2]] = (await api.get(target)).ok()["metadata"]["uid"]
    found = {}
    for write in WRITES:
        who = api.as_user(KUBELETS[write["user"]]) if write["user"] else api
        body = (
            json.loads(Template(json.dumps(write["body"])).safe_substitute(uids)) if write["body"] is not None else b""
        )
        headers = {"content-type": write["type"]} if write["type"] else None
        answer = await who.request(write["method"], write["path"], body, headers)
        message = answer.json.get("message", "") if answer.status >= 300 else ""
        wanted = Template(write["message"]).safe_substitute(uids)
        found[write["case"]] = (answer.status, message, write["status"], wanted)
    return found


def test_differences_are_no_more_than_they_were():
    assert {write["case"] for write in WRITES} >= DIFFERENT.keys()
    assert len(DIFFERENT) <= 11


def test_every_write_is_answered_as_upstream_does():
    options = {"service_account_signing_key": KEY}
    found = api_server.run(answers, users=list(KUBELETS.values()), options=options)
    assert len(found) > 130
    wrong = {
        case: (status, message, wanted, why)
        for case, (status, message, wanted, why) in found.items()
        # What is refused, and in which words; other faults are in words of their own.
        if case not in DIFFERENT and (status != wanted or (wanted == 403 and message != why))
    }
    assert wrong == {}
