"""What is answered where no handler is: the texts of a server that knows no such path.

Used by pipeline, discovery and openapi. Below the paths of built-in groups there is always a Status instead.
"""

from __future__ import annotations

from kybern.apiserver.request import Answered, Response

_TEXT = "text/plain; charset=utf-8"
NO_SNIFFING = ("X-Content-Type-Options", "nosniff")


def page_not_found() -> Response:
    """404 for paths that are nobody's."""
    return Response(404, b"404 page not found\n", _TEXT, (NO_SNIFFING,))


def nowhere() -> Answered:
    """The same, raised."""
    return Answered(page_not_found())
