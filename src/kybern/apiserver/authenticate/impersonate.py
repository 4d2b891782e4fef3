"""Act as somebody else (`Impersonate-*` headers), if one may.

Called by the pipeline after authentication. Every part of the other identity - user or service account, each group,
uid, each extra value - is authorized with the verb `impersonate`.
Source: "User impersonation" in the authentication documentation.
"""

from __future__ import annotations

from kybern.apiserver.authenticate import claims, front_proxy
from kybern.apiserver.authenticate.verdict import AUTHENTICATED, with_group
from kybern.apiserver.authorize.attributes import Attributes
from kybern.apiserver.authorize.chain import Authorizers
from kybern.apiserver.request import ANONYMOUS, Request, User
from kybern.machinery.status import ApiError

_GROUP = "authentication.k8s.io"
_EXTRA = "impersonate-extra-"
_HEADERS = ("impersonate-user", "impersonate-group", "impersonate-uid")


def impersonate(request: Request, user: User, authorizers: Authorizers) -> User:
    """Who the request acts as: `user` itself without such headers. They are taken off the request.

    Raises ApiError: 400 for parts without a user, 403 for a part one may not take on.
    """
    for header in request.headers:
        if header.startswith("impersonate-"):
            break
    else:
        return user
    name = request.headers.get("impersonate-user", "")
    groups = front_proxy.split(request.headers.get("impersonate-group", ""))
    uid = request.headers.get("impersonate-uid", "")
    extra = front_proxy.extra(request, _EXTRA)
    if not name:
        if groups or uid or extra:
            raise ApiError.bad_request("requested impersonation of groups, uid or extra without a user")
        _take_off(request)
        return user
    account = claims.split_user_name(name)
    if account is not None:
        namespace, short = account
        authorizers.require(user, Attributes("impersonate", "", "serviceaccounts", "", namespace, short, version="v1"))
        groups_held = groups or claims.groups_of(namespace)
    else:
        authorizers.require(user, Attributes("impersonate", "", "users", name=name, version="v1"))
        groups_held = groups
    for group in groups:
        authorizers.require(user, Attributes("impersonate", "", "groups", name=group, version="v1"))
    if uid:
        authorizers.require(user, Attributes("impersonate", _GROUP, "uids", name=uid, version="v1"))
    for key, values in extra.items():
        for value in values:
            authorizers.require(user, Attributes("impersonate", _GROUP, "userextras", key, name=value, version="v1"))
    if name == ANONYMOUS.name:
        groups_held = with_group(groups_held, *ANONYMOUS.groups)
    elif ANONYMOUS.groups[0] not in groups_held:
        groups_held = with_group(groups_held, AUTHENTICATED)
    _take_off(request)  # last: until then the question may be asked again
    return User(name, uid, groups_held, extra)


def _take_off(request: Request) -> None:
    request.headers = {
        h: value for h, value in request.headers.items() if h not in _HEADERS and not h.startswith(_EXTRA)
    }
