"""Act as somebody else (`Impersonate-*` headers), if one may.

Called by the pipeline after authentication. Two kinds of permission are asked for, in order:
* constrained: who may `impersonate-on:<mode>:<verb>` what is requested, and `impersonate:<mode>` the one he acts as.
  The mode says what that one is: a node (the impersonator's own or any), a service account, or any user;
* unconstrained, as of old: the verb `impersonate` on user or service account, each group, uid and extra value.
What is refused is told in terms of the constrained mode. Source: "User Impersonation" in the documentation (KEP-5284).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from kybern.apiserver.authenticate import claims, front_proxy
from kybern.apiserver.authenticate.verdict import AUTHENTICATED, with_group
from kybern.apiserver.authorize import attributes as attributes_module
from kybern.apiserver.authorize.attributes import Attributes
from kybern.apiserver.authorize.chain import Authorizers
from kybern.apiserver.authorize.node import GROUP as NODES
from kybern.apiserver.authorize.node import USER_PREFIX as NODE_PREFIX
from kybern.apiserver.request import ANONYMOUS, Request, User
from kybern.machinery.status import ApiError

_GROUP = "authentication.k8s.io"
_EXTRA = "impersonate-extra-"
_NODE_CONSTRAINTS = ("impersonate:associated-node", "impersonate:arbitrary-node")
_HEADERS = ("impersonate-user", "impersonate-group", "impersonate-uid")


@dataclass(frozen=True, slots=True)
class Asked:
    """Whom the headers name."""

    name: str
    groups: tuple[str, ...]
    uid: str
    extra: Mapping[str, tuple[str, ...]]

    @property
    def is_bare(self) -> bool:
        return not (self.groups or self.uid or self.extra)


@dataclass(frozen=True, slots=True)
class _Mode:
    """One kind of permission, and what it asks for besides `impersonate-on`."""

    name: str
    questions: tuple[Attributes, ...]


def impersonate(request: Request, authorizers: Authorizers) -> None:
    """Make `request.user` whom the request acts as; the headers are taken off the request.

    Raises ApiError: 400 for parts without a user, 403 for a part one may not take on.
    """
    for header in request.headers:
        if header.startswith("impersonate-"):
            break
    else:
        return
    asked = Asked(
        request.headers.get("impersonate-user", ""),
        front_proxy.split(request.headers.get("impersonate-group", "")),
        request.headers.get("impersonate-uid", ""),
        front_proxy.extra(request, _EXTRA),
    )
    if not asked.name:
        if not asked.is_bare:
            raise ApiError.bad_request(f"requested {_go_syntax(asked)} without impersonating a user name")
        _take_off(request)
        return
    constraint = _require(request, asked, authorizers)
    user = plan_user(asked, constraint)
    if request.audit is not None:
        request.audit.impersonates(user, constraint)
    _take_off(request)  # last: until then the question may be asked again
    request.user = user


def plan_user(asked: Asked, constraint: str) -> User:
    """Who acts: with the groups that such a user always has (a node only where it was asked for as one)."""
    groups = asked.groups
    account = claims.split_user_name(asked.name)
    if account is not None and not groups:
        groups = claims.groups_of(account[0])
    elif constraint in _NODE_CONSTRAINTS:
        groups = (NODES,)
    if asked.name == ANONYMOUS.name:
        groups = with_group(groups, *ANONYMOUS.groups)
    elif ANONYMOUS.groups[0] not in groups:
        groups = with_group(groups, AUTHENTICATED)
    return User(asked.name, asked.uid, groups, asked.extra)


def _require(request: Request, asked: Asked, authorizers: Authorizers) -> str:
    """By which constraint it is allowed ("": unconstrained). Raises ApiError 403."""
    user = request.user
    on = attributes_module.of_request(request.info)
    refusal: ApiError | None = None
    for mode in _modes(asked, user):
        first = dataclasses.replace(on, verb=f"impersonate-on:{mode.name}:{on.verb}")
        refusal = _refusal(authorizers, user, iter((first, *mode.questions)))
        if refusal is None:
            return f"impersonate:{mode.name}"
    unconstrained = _refusal(authorizers, user, _unconstrained(asked))
    if unconstrained is not None:
        raise refusal or unconstrained
    return ""


def _refusal(authorizers: Authorizers, user: User, questions: Iterator[Attributes]) -> ApiError | None:
    for question in questions:
        decision = authorizers.authorize(user, question)
        if not decision.allowed:
            return attributes_module.forbidden(user, question, decision.reason)
    return None


def _modes(asked: Asked, user: User) -> Iterator[_Mode]:
    """Which constrained permissions there are for such a user: nodes and accounts only without further parts."""
    account = claims.split_user_name(asked.name)
    if account is not None:
        if asked.is_bare:
            yield _mode("serviceaccount", lambda ask: (ask("serviceaccounts", account[1], account[0], ""),))
        return
    if asked.name.startswith(NODE_PREFIX) and asked.name != NODE_PREFIX:
        node = _node_of(asked)
        if not node:
            return
        if claims.split_user_name(user.name) is not None and user.extra.get(claims.NODE_NAME) == (node,):
            yield _mode("associated-node", lambda ask: (ask("nodes", node, "", ""),))
        yield _mode("arbitrary-node", lambda ask: (ask("nodes", node, "", ""),))
        return
    yield _mode(
        "user-info",
        lambda ask: (
            ask("users", asked.name, "", ""),
            *(ask("groups", group, "", "") for group in asked.groups),
            *((ask("uids", asked.uid, "", ""),) if asked.uid else ()),
            *(ask("userextras", value, "", key) for key, values in asked.extra.items() for value in values),
        ),
    )


_Ask = Callable[[str, str, str, str], Attributes]


def _mode(name: str, questions: Callable[[_Ask], tuple[Attributes, ...]]) -> _Mode:
    def ask(resource: str, of: str, namespace: str, subresource: str) -> Attributes:
        return Attributes(f"impersonate:{name}", _GROUP, resource, subresource, namespace, of, version="v1")

    return _Mode(name, questions(ask))


def _unconstrained(asked: Asked) -> Iterator[Attributes]:
    account = claims.split_user_name(asked.name)
    if account is not None:
        yield Attributes("impersonate", "", "serviceaccounts", "", account[0], account[1], version="v1")
    else:
        yield Attributes("impersonate", "", "users", name=asked.name, version="v1")
    for group in asked.groups:
        yield Attributes("impersonate", "", "groups", name=group, version="v1")
    if asked.uid:
        yield Attributes("impersonate", _GROUP, "uids", name=asked.uid, version="v1")
    for key, values in asked.extra.items():
        for value in values:
            yield Attributes("impersonate", _GROUP, "userextras", key, name=value, version="v1")


def _node_of(asked: Asked) -> str:
    """The node that is named without further parts, or ""."""
    return asked.name[len(NODE_PREFIX) :] if asked.name.startswith(NODE_PREFIX) and asked.is_bare else ""


def _take_off(request: Request) -> None:
    request.headers = {
        h: value for h, value in request.headers.items() if h not in _HEADERS and not h.startswith(_EXTRA)
    }


def _go_syntax(asked: Asked) -> str:
    """As upstream shows it."""

    def strings(values: tuple[str, ...]) -> str:
        return "[]string{" + ", ".join(map(_quoted, values)) + "}" if values else "[]string(nil)"

    extra = ", ".join(f"{_quoted(k)}:{strings(v)}" for k, v in sorted(asked.extra.items()))
    shown = f"map[string][]string{{{extra}}}" if extra else "map[string][]string(nil)"
    return f'&user.DefaultInfo{{Name:"", UID:{_quoted(asked.uid)}, Groups:{strings(asked.groups)}, Extra:{shown}}}'


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
