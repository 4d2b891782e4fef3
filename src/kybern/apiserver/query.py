"""Values of query parameters, as a Kubernetes server reads them. Used by info and the handlers.

Source: the answers of a v1.36 API server.
"""

from __future__ import annotations

from kybern.apiserver.request import Request
from kybern.machinery.status import ApiError


def truth(text: str) -> bool:
    """Of a parameter that is there: all but `false` and `0`."""
    return text.lower() not in ("false", "0")


def boolean(request: Request, name: str) -> bool:
    values = request.query.get(name)
    return truth(values[0]) if values else False


def integer(request: Request, name: str) -> int | None:
    """A whole number of 64 bits, None where absent. Raises ApiError 400."""
    values = request.query.get(name)
    if not values:
        return None
    text = values[0]
    digits = text[1:] if text[:1] in ("-", "+") else text
    if not (digits.isascii() and digits.isdigit()):
        raise ApiError.bad_request(f'strconv.ParseInt: parsing "{text[:64]}": invalid syntax')
    if len(digits.lstrip("0")) > 19 or not -(2**63) <= int(text) < 2**63:
        raise ApiError.bad_request(f'strconv.ParseInt: parsing "{text[:64]}": value out of range')
    return int(text)


def resource_version(request: Request) -> str:
    """ "", "0" or a revision. Raises ApiError 400."""
    return check_version(request.flag("resourceVersion"))


def check_version(text: str, before: str = "") -> str:
    """A resourceVersion that a client wrote: digits, or nothing. `before` opens the message. Raises ApiError 400."""
    if text and not (text.isascii() and text.isdigit() and len(text) <= 20 and int(text) < 2**64):
        shown = text[:64]
        why = f'strconv.ParseUint: parsing "{shown}": invalid syntax'
        raise ApiError.bad_request(f'{before}resourceVersion: Invalid value: "{shown}": {why}')
    return text


def include_object(request: Request) -> str:
    """How much of each object a Table's row holds: None, Metadata, Object. Raises ApiError 400."""
    value = request.flag("includeObject") or "Metadata"
    if value not in ("None", "Metadata", "Object"):
        raise ApiError.bad_request(
            "Unable to convert to Table as requested: "
            f"includeObject: Invalid value: \"{value[:64]}\": must be 'Metadata', 'Object', 'None', or empty"
        )
    return value
