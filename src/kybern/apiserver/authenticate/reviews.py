"""Answer questions about identity: TokenReview (whose token is this?) and SelfSubjectReview (who am I?).

Called by handlers for `create` of these kinds; they are answered and never stored.
"""

from __future__ import annotations

from kybern.api import scalars
from kybern.api.authentication_v1 import (
    SelfSubjectReview,
    SelfSubjectReviewStatus,
    TokenReview,
    TokenReviewStatus,
    UserInfo,
)
from kybern.apiserver.authenticate.chain import Authenticators
from kybern.apiserver.authenticate.verdict import InvalidToken
from kybern.apiserver.request import User
from kybern.machinery.clock import Clock
from kybern.machinery.status import ApiError


def user_info(user: User) -> UserInfo:
    """A user as the API writes it (reviews, admission webhooks, audit)."""
    return UserInfo(
        username=user.name or None,
        uid=user.uid or None,
        groups=list(user.groups),
        extra={k: list(v) for k, v in user.extra.items()},
    )


def review_token(review: TokenReview, authenticators: Authenticators) -> TokenReview:
    """Whose token it is, and for which of the audiences asked about (ours, if none). Raises ApiError 400."""
    if not review.spec.token:
        raise ApiError.bad_request("token is required for TokenReview in authentication")
    audiences = tuple(review.spec.audiences) or authenticators.audiences
    try:
        found = authenticators.authenticate_token(review.spec.token, audiences)
    except InvalidToken as error:
        review.status = TokenReviewStatus(error=str(error), user=UserInfo())  # false is not written
        return review
    review.status = TokenReviewStatus(authenticated=True, user=user_info(found.user), audiences=list(found.audiences))
    return review


def review_self(user: User, clock: Clock) -> SelfSubjectReview:
    """Who asks."""
    answered = SelfSubjectReview()  # whatever the question holds is not repeated
    answered.metadata.creationTimestamp = scalars.render_time(clock.now())
    answered.status = SelfSubjectReviewStatus(userInfo=user_info(user))
    return answered
