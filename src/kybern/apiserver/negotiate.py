"""Which form of an answer a client accepts: JSON, YAML or protobuf; the object itself, a Table, or its metadata only.

Asked by handlers with the Accept header. Raises ApiError 406 where nothing fits.
Source: "Alternate representations of resources" and RFC 9110, section 12.5.1.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

from kybern.api import protobuf
from kybern.api.resource import Resource
from kybern.machinery.status import ApiError

Encoding = Literal["json", "yaml", "protobuf"]
Shape = Literal["", "Table", "PartialObjectMetadata", "PartialObjectMetadataList"]

_JSON = "application/json"
_YAML = "application/yaml"
_PROTOBUF = protobuf.CONTENT_TYPE
ACCEPTED = (_JSON, _YAML, _PROTOBUF)
# A collection is also watched.
ACCEPTED_OF_LISTS = (*ACCEPTED, f"{_JSON};stream=watch", f"{_PROTOBUF};stream=watch")
_KNOWN = frozenset({*ACCEPTED, "*/*", "application/*"})
_TYPES: dict[Encoding, str] = {"json": _JSON, "yaml": _YAML, "protobuf": _PROTOBUF}


@dataclass(frozen=True, slots=True)
class Accepted:
    """The chosen form. `shape` "" is the object as it is."""

    encoding: Encoding = "json"
    shape: Shape = ""
    shape_version: str = ""  # v1 or v1beta1 of meta.k8s.io

    @property
    def content_type(self) -> str:
        return _TYPES[self.encoding]

    @property
    def stream_type(self) -> str:
        """Of a watch."""
        return f"{_PROTOBUF};stream=watch" if self.encoding == "protobuf" else self.content_type


PLAIN = Accepted()
# Longer headers are read each time they come.
_LONGEST_KEPT = 512


def choose(accept: str, streams: bool | None = None, has_protobuf: bool = True, has_tables: bool = True) -> Accepted:
    """The first of the client's wishes that can be had, by weight and then by order.

    `streams`: for a watch, False for a list. `has_tables`: whether it can be told as a Table. `has_protobuf`: whether
    the object has such a form; custom ones have not (their metadata has).
    """
    if len(accept) <= _LONGEST_KEPT:
        return _kept_choice(accept, streams, has_protobuf, has_tables)
    return _choose(accept, streams, has_protobuf, has_tables)


def _choose(accept: str, streams: bool | None, has_protobuf: bool, has_tables: bool) -> Accepted:
    wishes = [w for w in (_parse(part) for part in accept.split(",")) if w is not None]
    if not wishes and not accept.strip():
        return PLAIN
    for _, media, parameters in sorted(wishes, key=lambda w: -w[0]):
        found = _offer(media, parameters, streams, has_protobuf)
        if found is not None and (has_tables or found.shape != "Table"):
            return PLAIN if found == PLAIN else found
    if has_protobuf and not any(media in _KNOWN for _, media, _ in wishes):
        raise ApiError.no_representation(ACCEPTED_OF_LISTS if streams is not None else ACCEPTED)
    raise ApiError.not_acceptable(ACCEPTED)


_kept_choice = functools.lru_cache(maxsize=1024)(_choose)


def choose_plain(accept: str) -> Accepted:
    """The encoding of an answer that has no other shape. Raises ApiError 406."""
    accepted = choose(accept)
    if accepted.shape:
        raise ApiError.not_acceptable(ACCEPTED)
    return accepted


def for_status(accept: str) -> Accepted:
    """The form of an error: it has no other shapes, and there always is one."""
    if not accept:
        return PLAIN
    try:
        chosen = choose(accept)
    except ApiError:
        return PLAIN
    return PLAIN if chosen.shape else chosen


def check_shape(accepted: Accepted, resource: Resource, *, is_list: bool) -> None:
    """Metadata of one object and of a list are asked for by different names. Raises ApiError 406."""
    if accepted.shape == ("PartialObjectMetadata" if is_list else "PartialObjectMetadataList"):
        package = resource.group.partition(".")[0] or "core" if resource.module else "unstructured"
        kind = resource.kind if resource.module else "Unstructured"
        what = f"a list (*{package}.{kind}List)" if is_list else f"not a list (*{package}.{kind})"
        raise ApiError.make(406, "NotAcceptable", f"you requested {accepted.shape}, but the requested object is {what}")


def _parse(part: str) -> tuple[float, str, dict[str, str]] | None:
    media, *rest = (p.strip() for p in part.split(";"))
    if not media:
        return None
    parameters = {}
    for piece in rest:
        name, _, value = piece.partition("=")
        parameters[name.strip().lower()] = value.strip().strip('"')
    try:
        weight = float(parameters.pop("q", "1"))
    except ValueError:
        weight = 0.0
    return (weight, media.lower(), parameters) if weight > 0 else None


def _offer(media: str, parameters: dict[str, str], streams: bool | None, has_protobuf: bool) -> Accepted | None:
    if media in ("*/*", "application/*"):
        encoding: Encoding = "json"
    elif media == _JSON:
        encoding = "json"
    elif media == _YAML and not streams:
        encoding = "yaml"
    elif media == _PROTOBUF:
        encoding = "protobuf"
    else:
        return None
    wanted = parameters.get("as", "")
    if not wanted:
        return Accepted(encoding) if has_protobuf or encoding != "protobuf" else None
    version = parameters.get("v", "")
    if parameters.get("g") != "meta.k8s.io" or version not in ("v1", "v1beta1"):
        return None
    if wanted == "Table" and encoding != "protobuf":
        return Accepted(encoding, "Table", version)
    if wanted == "PartialObjectMetadata":
        return Accepted(encoding, "PartialObjectMetadata", version)
    if wanted == "PartialObjectMetadataList":
        return Accepted(encoding, "PartialObjectMetadataList", version)
    return None
