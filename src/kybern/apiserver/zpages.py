"""Answer /statusz and /flagz: as text, or as an object where a client asks for one by its version.

Made by paths from machinery/zpages. Upstream's rules: an object is asked for by group, version and kind
(`application/json;v=v1beta1;g=config.k8s.io;as=Statusz`), everybody else gets text or 406.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kybern.api import codec
from kybern.apiserver import unrouted
from kybern.apiserver.handlers import forms
from kybern.apiserver.request import Request, Response
from kybern.machinery import zpages
from kybern.machinery.status import ApiError

_MEDIA = ("application/json", "application/yaml", "text/plain")
_TEXT = ("text/plain", "text/*", "*/*")
_VERSIONS = ("v1beta1", "v1alpha1")


def page(
    kind: str, text: Callable[[], str], document: Callable[[str], dict[str, Any]]
) -> Callable[[Request], Response]:
    """The handler of a page. `document` makes the object of a version."""

    def handle(request: Request) -> Response:
        if request.path.endswith("/"):
            raise unrouted.nowhere()
        media, told = _choose(request.headers.get("accept", ""), kind)
        if not told:
            return Response(body=text().encode(), content_type=zpages.CONTENT_TYPE)
        if told != _VERSIONS[0]:
            page_name = kind.lower()
            request.warnings.append(
                f"This version of the {page_name} endpoint is deprecated. Please use a newer version."
            )
        data = codec.encode(document(told))
        body = forms.to_yaml(data) if media == "application/yaml" else data
        return Response(body=body, content_type=f"{media};g={zpages.GROUP};v={told};as={kind}")

    return handle


def _choose(accept: str, kind: str) -> tuple[str, str]:
    """(media type, version of the object or "" for text). Raises ApiError 406."""
    if not accept.strip():
        return _TEXT[0], ""
    for wish in accept.split(","):
        media, *rest = (part.strip() for part in wish.split(";"))
        parameters = dict(part.partition("=")[::2] for part in rest)
        if media in _TEXT:
            return media, ""
        is_asked = parameters.get("g") == zpages.GROUP and parameters.get("as") == kind
        if media in _MEDIA and is_asked and parameters.get("v") in _VERSIONS:
            return media, parameters["v"]
    raise ApiError.not_acceptable(_MEDIA)
