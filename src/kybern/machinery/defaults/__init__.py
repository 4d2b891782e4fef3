"""Fill in what a client left out, in place, before admission and validation see an object.

Called by registry strategies after decoding. One module a family of kinds; each lists its functions in `DEFAULTS`.
Idempotent: applying twice changes nothing. An empty string counts as left out, as everywhere in the API.
Source: the API reference, and the answers of a v1.36 API server (tests/unit/machinery/defaults/recorded.json).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kybern.machinery.defaults import admission, core, networking, pods, resource_claims, workloads

_BY_TYPE: dict[type[Any], Callable[[Any], None]] = {
    **pods.DEFAULTS,
    **workloads.DEFAULTS,
    **core.DEFAULTS,
    **networking.DEFAULTS,
    **admission.DEFAULTS,
    **resource_claims.DEFAULTS,
}


def apply(obj: Any) -> None:
    """Default `obj` in place; kinds without defaults stay as they are."""
    fill = _BY_TYPE.get(type(obj))
    if fill is not None:
        fill(obj)
