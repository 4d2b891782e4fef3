"""Users named by a proxy in front of us (`X-Remote-User` and its kin), believed only from a front-proxy certificate.

Source: "Authenticating Proxy" in the authentication documentation.
"""

from __future__ import annotations

import urllib.parse

from kybern.apiserver.authenticate.client_certificates import Authority, InvalidCertificate
from kybern.apiserver.authenticate.verdict import AUTHENTICATED, with_group
from kybern.apiserver.request import ANONYMOUS, Request, User

_EXTRA = "x-remote-extra-"


class FrontProxy:
    """`allowed_names` are the common names such a proxy may have; none given: any."""

    def __init__(self, authority: Authority, allowed_names: tuple[str, ...]) -> None:
        self._authority = authority
        self._allowed_names = allowed_names

    def authenticate(self, request: Request) -> User | None:
        """None when the request does not come through a front proxy, or names no user."""
        name = request.headers.get("x-remote-user", "")
        if not name or not request.certificates:
            return None
        try:
            proxy = self._authority.verify(request.certificates)
        except InvalidCertificate:
            return None  # it may still be a client with a certificate of its own
        if self._allowed_names and proxy.common_name not in self._allowed_names:
            return None
        groups = split(request.headers.get("x-remote-group", ""))
        if name != ANONYMOUS.name and ANONYMOUS.groups[0] not in groups:
            groups = with_group(groups, AUTHENTICATED)
        return User(name, request.headers.get("x-remote-uid", ""), groups, extra(request, _EXTRA))


def split(value: str) -> tuple[str, ...]:
    """The values of a header that was sent more than once."""
    return tuple(v for v in value.split(", ") if v)


def extra(request: Request, prefix: str) -> dict[str, tuple[str, ...]]:
    """`prefix`<key>: value headers; keys are lower-case and percent-decoded."""
    return {
        urllib.parse.unquote(name[len(prefix) :]).lower(): split(value)
        for name, value in request.headers.items()
        if name.startswith(prefix)  # nothing behind it is a key, too, as upstream has it
    }
