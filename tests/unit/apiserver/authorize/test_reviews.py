from __future__ import annotations

import pytest

from kybern.api.authentication_v1 import TokenReview, TokenReviewSpec
from kybern.api.authorization_v1 import (
    LocalSubjectAccessReview,
    NonResourceAttributes,
    ResourceAttributes,
    SelfSubjectAccessReview,
    SelfSubjectAccessReviewSpec,
    SelfSubjectRulesReview,
    SelfSubjectRulesReviewSpec,
    SubjectAccessReview,
    SubjectAccessReviewSpec,
)
from kybern.api.meta_v1 import ObjectMeta
from kybern.apiserver.authenticate.chain import AuthenticationOptions, Authenticators
from kybern.apiserver.authenticate.reviews import review_self, review_token
from kybern.apiserver.authorize import reviews
from kybern.apiserver.authorize.bootstrap_roles import default_objects
from kybern.apiserver.authorize.chain import Authorizers
from kybern.apiserver.request import User
from kybern.machinery.status import ApiError
from kybern.testing.clock import FakeClock
from kybern.testing.objects import ObjectTable

JANE = User("jane", "1", ("system:authenticated",), {"k": ("v",)})
ISSUER = "https://kubernetes.default.svc.cluster.local"
PODS = ResourceAttributes(verb="list", resource="pods", namespace="ns")


def authorizers() -> Authorizers:
    return Authorizers(ObjectTable(*default_objects()))


def test_may_i() -> None:
    spec = SelfSubjectAccessReviewSpec(resourceAttributes=PODS)
    assert not reviews.review_self_access(SelfSubjectAccessReview(spec=spec), JANE, authorizers()).status.allowed
    spec = SelfSubjectAccessReviewSpec(nonResourceAttributes=NonResourceAttributes(verb="get", path="/api"))
    answer = reviews.review_self_access(SelfSubjectAccessReview(spec=spec), JANE, authorizers()).status
    assert answer.allowed
    assert answer.reason == (
        'RBAC: allowed by ClusterRoleBinding "system:discovery" of ClusterRole "system:discovery" '
        'to Group "system:authenticated"'
    )


def test_may_they() -> None:
    spec = SubjectAccessReviewSpec(groups=["system:masters"], resourceAttributes=PODS)
    assert reviews.review_subject(SubjectAccessReview(spec=spec), authorizers()).status.allowed
    spec = SubjectAccessReviewSpec(user="system:kube-scheduler", resourceAttributes=PODS)
    assert reviews.review_subject(SubjectAccessReview(spec=spec), authorizers()).status.allowed
    spec = SubjectAccessReviewSpec(user="eve", resourceAttributes=PODS)
    assert not reviews.review_subject(SubjectAccessReview(spec=spec), authorizers()).status.allowed


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (SubjectAccessReviewSpec(user="x"), "exactly one of nonResourceAttributes or resourceAttributes"),
        (SubjectAccessReviewSpec(resourceAttributes=PODS), "at least one of user or group must be specified"),
        (
            SubjectAccessReviewSpec(
                user="x", resourceAttributes=PODS, nonResourceAttributes=NonResourceAttributes(path="/")
            ),
            "cannot be specified in combination with resourceAttributes",
        ),
    ],
)
def test_a_question_must_be_whole(spec: SubjectAccessReviewSpec, message: str) -> None:
    with pytest.raises(ApiError, match=message) as raised:
        reviews.review_subject(SubjectAccessReview(spec=spec), authorizers())
    assert raised.value.code == 422


def test_a_local_question_stays_in_its_namespace() -> None:
    spec = SubjectAccessReviewSpec(groups=["system:masters"], resourceAttributes=PODS)
    review = LocalSubjectAccessReview(metadata=ObjectMeta(namespace="ns"), spec=spec)
    assert reviews.review_local(review, "ns", authorizers()).status.allowed
    with pytest.raises(ApiError):
        reviews.review_local(review, "other", authorizers())
    elsewhere = LocalSubjectAccessReview(metadata=ObjectMeta(namespace="other"), spec=spec)
    with pytest.raises(ApiError):
        reviews.review_local(elsewhere, "other", authorizers())


def test_what_may_i() -> None:
    review = SelfSubjectRulesReview(spec=SelfSubjectRulesReviewSpec(namespace="ns"))
    status = reviews.review_self_rules(review, JANE, authorizers()).status
    assert {r for rule in status.resourceRules for r in rule.resources} == {
        "selfsubjectaccessreviews",
        "selfsubjectrulesreviews",
        "selfsubjectreviews",
    }
    assert any("/healthz" in rule.nonResourceURLs for rule in status.nonResourceRules)
    assert not status.incomplete
    with pytest.raises(ApiError):
        reviews.review_self_rules(SelfSubjectRulesReview(), JANE, authorizers())


def test_masters_may_everything_and_nodes_know_only_a_part() -> None:
    review = SelfSubjectRulesReview(spec=SelfSubjectRulesReviewSpec(namespace="ns"))
    status = reviews.review_self_rules(review, User("a", groups=("system:masters",)), authorizers()).status
    assert status.resourceRules[0].verbs == ["*"]
    kubelet = User("system:node:n", groups=("system:nodes",))
    assert reviews.review_self_rules(SelfSubjectRulesReview(spec=review.spec), kubelet, authorizers()).status.incomplete


def test_whose_token_is_this() -> None:
    options = AuthenticationOptions(static_tokens="s3cret,ann,1,devs")
    authenticators = Authenticators(options, ObjectTable(), FakeClock())
    found = review_token(
        TokenReview(spec=TokenReviewSpec(token="s3cret", audiences=["a", ISSUER])), authenticators
    ).status
    assert found.authenticated
    assert found.user is not None
    assert (found.user.username, found.user.groups) == ("ann", ["devs", "system:authenticated"])
    assert found.audiences == [ISSUER]
    elsewhere = TokenReview(spec=TokenReviewSpec(token="s3cret", audiences=["a"]))
    assert not review_token(elsewhere, authenticators).status.authenticated
    wrong = review_token(TokenReview(spec=TokenReviewSpec(token="wrong")), authenticators).status
    assert not wrong.authenticated
    assert wrong.error == "invalid bearer token"
    with pytest.raises(ApiError):
        review_token(TokenReview(), authenticators)


def test_who_am_i() -> None:
    info = review_self(JANE, FakeClock()).status.userInfo
    assert info is not None
    assert (info.username, info.uid, info.groups, info.extra) == ("jane", "1", ["system:authenticated"], {"k": ["v"]})
