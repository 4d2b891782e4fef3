"""Bodies of the subresources that take an object of a kind of their own: eviction, binding, token, scale.

Asked by generate and seeds; the bodies are in seeds/forms.yml. What is special about each kind is here.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import yaml

FILE = pathlib.Path(__file__).parent / "seeds" / "forms.yml"

DEFINITIONS = {
    ("policy/v1", "Eviction"): "io.k8s.api.policy.v1.Eviction",
    ("autoscaling/v1", "Scale"): "io.k8s.api.autoscaling.v1.Scale",
    ("authentication.k8s.io/v1", "TokenRequest"): "io.k8s.api.authentication.v1.TokenRequest",
}
# A post is of nothing that is there; a scale is written over the one that is.
METHODS = {"eviction": "POST", "binding": "POST", "token": "POST", "scale": "PUT"}
_OWN = "OWN"


def load() -> dict[str, list[dict[str, Any]]]:
    """Subresource -> bodies as they are written. Fresh objects at every call."""
    found: dict[str, list[dict[str, Any]]] = yaml.load(FILE.read_text(), Loader=yaml.CSafeLoader)
    return found


def bodies(verb: str, base: dict[str, Any], pod: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What may be written to `base`'s subresource. `pod`: a stored one, for what refers to a pod."""
    named = pod if verb == "token" else base
    for form in load()[verb]:
        meta = form.setdefault("metadata", {})
        if verb != "token":
            meta["name"] = base["metadata"]["name"]
        yield _with_own(form, named["metadata"])


def _with_own(value: Any, meta: dict[str, Any], field: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _with_own(inner, meta, key) for key, inner in value.items()}
    return meta[field] if value == _OWN else value
