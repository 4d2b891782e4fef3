"""Under which name a request owns what it writes: its fieldManager, or the program that sent it.

Called by the write handlers; the name becomes an `Owner` for registry/ownership.
"""

from __future__ import annotations

import functools

from kybern.apiserver.registry.ownership import Owner
from kybern.apiserver.registry.registry import Served
from kybern.apiserver.request import Request
from kybern.machinery.status import ApiError, invalid, required, too_long

MAX_NAME = 128  # bytes. kube-apiserver: the same

_OPTIONS = {"create": "CreateOptions", "update": "UpdateOptions", "patch": "PatchOptions"}


def owner_of(request: Request, served: Served) -> Owner:
    """Who owns what the request changes. Raises ApiError 422 for a name that is none."""
    given = request.flag("fieldManager") if "fieldManager" in request.query else ""
    if given:
        _check(given, request)
    name = given or name_of_agent(request.headers.get("user-agent", ""))
    return Owner(name, served.resource.api_version, request.info.subresource)


def applier_of(request: Request, served: Served) -> Owner:
    """Who applies: only who gives a name may. Raises ApiError 422."""
    if not request.flag("fieldManager"):
        fault = required("fieldManager", "is required for apply patch")
        raise ApiError.invalid("meta.k8s.io", "PatchOptions", "", [fault])
    return owner_of(request, served)


def _check(name: str, request: Request) -> None:
    faults = []
    if len(name.encode()) > MAX_NAME:
        faults.append(too_long("fieldManager", MAX_NAME))
    at = next((i for i, c in enumerate(name) if not c.isprintable()), None)
    if at is not None:
        detail = f"invalid character U+{ord(name[at]):04X} (at position {len(name[:at].encode())})"
        faults.append(invalid("fieldManager", name, detail))
    if faults:
        kind = _OPTIONS.get(request.info.verb, "PatchOptions")
        raise ApiError.invalid("meta.k8s.io", kind, "", faults)


@functools.lru_cache(maxsize=1024)
def name_of_agent(agent: str) -> str:
    """`kubectl` of `kubectl/v1.36.2 (linux/amd64)`: what is printable of it, as long as names may be."""
    name = ""
    for character in agent.partition("/")[0]:
        if not character.isprintable():
            continue
        if len((name + character).encode()) > MAX_NAME:
            break
        name += character
    return name or "unknown"
