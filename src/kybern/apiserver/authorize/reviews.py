"""Answer questions about permissions: the four kinds of authorization.k8s.io.

Called by handlers for `create` of these kinds; they are answered and never stored.
Source: authorization.k8s.io/v1 in the API reference.
"""

from __future__ import annotations

from kybern.api import codec
from kybern.api.authorization_v1 import (
    LocalSubjectAccessReview,
    NonResourceAttributes,
    NonResourceRule,
    ResourceAttributes,
    ResourceRule,
    SelfSubjectAccessReview,
    SelfSubjectRulesReview,
    SubjectAccessReview,
    SubjectAccessReviewSpec,
    SubjectAccessReviewStatus,
    SubjectRulesReviewStatus,
)
from kybern.api.meta_v1 import ObjectMeta
from kybern.api.rbac_v1 import PolicyRule
from kybern.apiserver.authorize import selectors
from kybern.apiserver.authorize.attributes import MASTERS, Attributes
from kybern.apiserver.authorize.chain import Authorizers
from kybern.apiserver.authorize.node import node_of
from kybern.apiserver.request import User
from kybern.machinery import status
from kybern.machinery.status import ApiError, FieldError

GROUP = "authorization.k8s.io"


def review_self_access(
    review: SelfSubjectAccessReview, user: User, authorizers: Authorizers
) -> SelfSubjectAccessReview:
    """May I? Raises ApiError 422."""
    spec = review.spec
    errors = _check_attributes(spec.resourceAttributes, spec.nonResourceAttributes)
    errors += _check_metadata(review.metadata, "must be empty")
    if errors:
        raise ApiError.invalid(GROUP, "", "", errors)  # upstream names no kind here
    review.status = _decide(authorizers, user, spec.resourceAttributes, spec.nonResourceAttributes)
    return review


def review_subject(review: SubjectAccessReview, authorizers: Authorizers) -> SubjectAccessReview:
    """May they? Raises ApiError 422."""
    errors = _check_spec(review.spec) + _check_metadata(review.metadata, "must be empty")
    if errors:
        raise ApiError.invalid(GROUP, "", "", errors)  # upstream names no kind here
    review.status = _decide_spec(authorizers, review.spec)
    return review


def review_local(
    review: LocalSubjectAccessReview, namespace: str, authorizers: Authorizers
) -> LocalSubjectAccessReview:
    """May they, in this namespace? Raises ApiError 422, and 400 when the review names another namespace."""
    if review.metadata.namespace and review.metadata.namespace != namespace:
        raise ApiError.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    asked = review.spec.resourceAttributes
    errors = _check_spec(review.spec)
    errors += _check_metadata(review.metadata, "must be empty except for namespace")
    if asked is not None and (asked.namespace or "") != (review.metadata.namespace or namespace):
        errors.append(
            status.invalid("spec.resourceAttributes.namespace", asked.namespace or "", "must match metadata.namespace")
        )
    if review.spec.nonResourceAttributes is not None:
        shown = codec.to_json(review.spec.nonResourceAttributes)
        errors.append(status.invalid("spec.nonResourceAttributes", shown, "disallowed on this kind of request"))
    if errors:
        raise ApiError.invalid(GROUP, "", "", errors)  # upstream names no kind here
    review.status = _decide_spec(authorizers, review.spec)
    return review


# What is looked at: the rest is wiped before.
_TELLING = (
    "name", "generateName", "labels", "annotations", "finalizers", "ownerReferences", "resourceVersion", "generation",
)  # fmt: skip


def _check_metadata(metadata: ObjectMeta, message: str) -> list[FieldError]:
    """A question has no name; who sends one takes it for an object."""
    if not any(getattr(metadata, field) for field in _TELLING):
        return []
    return [status.invalid("metadata", codec.to_json(metadata), message)]


def review_self_rules(review: SelfSubjectRulesReview, user: User, authorizers: Authorizers) -> SelfSubjectRulesReview:
    """What may I do in a namespace? Raises ApiError 400 without a namespace."""
    namespace = review.spec.namespace or ""
    if not namespace:
        raise ApiError.bad_request("no namespace on request")
    held = [rule for _, rule in authorizers.rbac.rules_for(user, namespace)]
    if MASTERS in user.groups:
        everything = [
            PolicyRule(verbs=["*"], apiGroups=["*"], resources=["*"]),
            PolicyRule(verbs=["*"], nonResourceURLs=["*"]),
        ]
        held = everything + [r for r in held if r not in everything]
    incomplete = [f"{w.name}: a webhook does not support user rule resolution" for w in authorizers.webhooks]
    if node_of(user) is not None:
        incomplete.insert(0, "node authorizer does not support user rule resolution")
    answered = SelfSubjectRulesReview()  # the question is not repeated
    answered.status = SubjectRulesReviewStatus(
        resourceRules=[
            ResourceRule(verbs=r.verbs, apiGroups=r.apiGroups, resources=r.resources, resourceNames=r.resourceNames)
            for r in held
            if r.resources
        ],
        nonResourceRules=[
            NonResourceRule(verbs=r.verbs, nonResourceURLs=r.nonResourceURLs) for r in held if r.nonResourceURLs
        ],
        incomplete=bool(incomplete),
        evaluationError="; ".join(incomplete) or None,
    )
    return answered


def _decide_spec(authorizers: Authorizers, spec: SubjectAccessReviewSpec) -> SubjectAccessReviewStatus:
    extra = {k: tuple(v) for k, v in spec.extra.items()}
    user = User(spec.user or "", spec.uid or "", tuple(spec.groups), extra)
    return _decide(authorizers, user, spec.resourceAttributes, spec.nonResourceAttributes)


def _decide(
    authorizers: Authorizers,
    user: User,
    resource: ResourceAttributes | None,
    path: NonResourceAttributes | None,
) -> SubjectAccessReviewStatus:
    ignored = ""
    if resource is not None:
        of_fields, of_labels, ignored = selectors.of_review(resource)
        asked = Attributes(
            verb=resource.verb or "",
            group=resource.group or "",
            resource=resource.resource or "",
            subresource=resource.subresource or "",
            namespace=resource.namespace or "",
            name=resource.name or "",
            version=resource.version or "",
            fields=of_fields,
            labels=of_labels,
        )
    else:
        asked = Attributes(verb=(path.verb or "") if path else "", path=(path.path or "") if path else "")
    decision = authorizers.authorize(user, asked)
    return SubjectAccessReviewStatus(
        allowed=decision.allowed,
        denied=decision.denied or None,
        reason=decision.reason or None,
        evaluationError=ignored or None,
    )


def _check_spec(spec: SubjectAccessReviewSpec) -> list[FieldError]:
    errors = _check_attributes(spec.resourceAttributes, spec.nonResourceAttributes)
    if not spec.user and not spec.groups:
        errors.append(status.invalid("spec.user", spec.user or "", "at least one of user or group must be specified"))
    return errors


def _check_attributes(resource: ResourceAttributes | None, path: NonResourceAttributes | None) -> list[FieldError]:
    if resource is not None and path is not None:
        return [
            status.invalid(
                "spec.nonResourceAttributes", path, "cannot be specified in combination with resourceAttributes"
            )
        ]
    if resource is None and path is None:
        return [
            status.invalid(
                "spec.resourceAttributes",
                None,
                "exactly one of nonResourceAttributes or resourceAttributes must be specified",
            )
        ]
    return selectors.find_faults(resource) if resource is not None else []
