"""What the API server and the process that runs policies say to each other: one JSON message a frame.

Made and read by pool and worker; the same shapes carry a call within one process (evaluate, offline). Pure.
"""

from __future__ import annotations

import struct
from typing import Any

import msgspec

from kybern.policies.admission import Policy
from kybern.policies.load import Loaded

_LENGTH = struct.Struct(">I")
LONGEST = 64 << 20  # bytes of a frame: an object and its old state, with room


# msgspec knows no `Raw | None`.
NOTHING = msgspec.Raw(b"null")


def is_something(data: msgspec.Raw) -> bool:
    return bytes(data) != b"null"


class Target(msgspec.Struct, frozen=True):
    """Which objects, and as which kind they are wanted ("" for any: as they are stored)."""

    resource: str
    subresource: str
    apiVersion: str = ""


class Entry(msgspec.Struct, frozen=True):
    """One policy, as the API server knows it."""

    name: str
    place: str  # file.py:12
    mayChange: bool
    targets: tuple[Target, ...]
    operations: tuple[str, ...]
    budget: float
    failsOpen: bool


class Catalogue(msgspec.Struct, tag=True):
    """The first message of a worker."""

    policies: list[Entry]


class Broken(msgspec.Struct, tag=True):
    """Instead of a catalogue: the folder cannot be used."""

    error: str


class Who(msgspec.Struct):
    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, tuple[str, ...]] = {}


class Ask(msgspec.Struct):
    """One call of one policy."""

    policy: int  # its place in the catalogue
    operation: str
    resource: str
    subresource: str
    namespace: str
    name: str
    user: Who
    object: msgspec.Raw  # of DELETE: the one that goes
    old: msgspec.Raw = NOTHING
    dryRun: bool = False
    namespaceLabels: dict[str, str] = {}


class Outcome(msgspec.Struct, tag=True, kw_only=True):
    """What came of it. `failure` "": it ran to its end."""

    refusals: list[str] = []
    object: msgspec.Raw = NOTHING  # after a mutate policy
    warnings: list[str] = []
    annotations: dict[str, str] = {}
    failure: str = ""


Message = Catalogue | Broken | Outcome

_encoder = msgspec.json.Encoder()
_messages = msgspec.json.Decoder(Message)
_asks = msgspec.json.Decoder(Ask)


def frame(message: Any) -> bytes:
    """Length and JSON."""
    data = _encoder.encode(message)
    return _LENGTH.pack(len(data)) + data


def length_of(prefix: bytes) -> int:
    """Raises ValueError for a frame that is too long."""
    (length,) = _LENGTH.unpack(prefix)
    if length > LONGEST:
        raise ValueError(f"a message of {length} bytes")
    return int(length)


PREFIX = _LENGTH.size
parse_message = _messages.decode
parse_ask = _asks.decode


def catalogue_of(policies: list[Loaded]) -> Catalogue:
    return Catalogue([_entry(loaded.policy, loaded.place) for loaded in policies])


def _entry(policy: Policy, place: str) -> Entry:
    targets = tuple(
        Target(w.resource, w.subresource, w.struct().apiVersion if w.struct is not None else "")  # type: ignore[attr-defined]
        for w in policy.wanted
    )
    return Entry(policy.name, place, policy.may_change, targets, policy.operations, policy.budget, policy.fails_open)
