"""What a v1.36 Node authorizer said to 434 SubjectAccessReviews about kubelets, in the same small world."""

import json
from pathlib import Path

from kybern.testing import api_server

RECORDED = json.loads(Path(__file__).with_name("node_questions.json").read_text())
REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


async def judge(api):
    for target, obj in RECORDED["world"]:
        (await api.create(target, obj)).ok()
    wrong = []
    for question in RECORDED["questions"]:
        spec = {key: question[key] for key in ("user", "groups", "resourceAttributes")}
        status = (await api.create(REVIEWS, {"spec": spec})).ok()["status"]
        is_allowed = status.get("allowed", False)
        # Why something is allowed is told in our own words.
        same_reason = is_allowed or status.get("reason", "") == question["reason"]
        if is_allowed != question["allowed"] or not same_reason:
            wrong.append((spec, status, question["reason"]))
    return wrong


def test_every_question_is_answered_as_upstream_does():
    assert len(RECORDED["questions"]) >= 400
    assert sum(question["allowed"] for question in RECORDED["questions"]) > 100
    assert api_server.run(judge) == []
