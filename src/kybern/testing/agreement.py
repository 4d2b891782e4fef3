"""Whether two API servers answer a write alike: what of an answer is compared, and a server in this process to ask.

Used by tools/corpus, which records a reference server's answers, and by the test that replays a sample of them.
An answer becomes a `Verdict`: its code, the faulty fields with their reasons and messages, and the object as it would
have been stored. What only says when and by what chance (times, uids, given names and addresses) is masked.
"""

from __future__ import annotations

import asyncio
import datetime
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kybern.apiserver.registry import keys
from kybern.machinery import scheme
from kybern.storage.memory import MemoryStore
from kybern.testing import api_server
from kybern.testing.clock import FakeClock

QUERY = "?dryRun=All&fieldValidation=Ignore"

_TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")
_UID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TOKEN_VOLUME = re.compile(r"^kube-api-access-[a-z0-9]{5}$")
_GIVEN = frozenset({"clusterIP", "clusterIPs", "nodePort", "healthCheckNodePort"})
_OF_THE_SERVER = frozenset({"uid", "creationTimestamp", "resourceVersion", "managedFields", "selfLink"})
# Where upstream prints a struct of its own (Go field names) or a diff, only what frames it is compared.
_STRUCT = re.compile(r'^(\w+ value): (\{.*(?:\}|\.\.\.)|\[.*(?:\]|\.\.\.)|null|"null"): ', re.DOTALL)
_STRUCT_ALONE = re.compile(r"^(Duplicate value): \{.*\}$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Write:
    """One request of the corpus. `base`: which stored object it changes, None for a create."""

    method: str
    path: str
    sent: dict[str, Any]
    base: int | None = None
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is compared of an answer."""

    code: int
    faults: tuple[tuple[str, str, str], ...]  # (reason, field, message), sorted
    stored: Any  # the object of a success, masked; the reason of a refusal without faults

    @property
    def decision(self) -> int:
        return self.code if self.code >= 300 else 200

    @property
    def fields(self) -> frozenset[tuple[str, str]]:
        return frozenset((reason, field) for reason, field, _ in self.faults)


def verdict(code: int, body: Any, sent: Mapping[str, Any]) -> Verdict:
    """The comparable part of an answer to `sent`."""
    if code >= 300:
        details = body.get("details") or {} if isinstance(body, dict) else {}
        faults = {
            (cause.get("reason", ""), cause.get("field", ""), _plain(cause.get("message", "")))
            for cause in details.get("causes") or ()
        }
        return Verdict(code, tuple(sorted(faults)), body.get("reason") if isinstance(body, dict) else None)
    known = set(_scalars(sent))
    if str(body.get("kind", "")).endswith("Review"):
        body = {**body, "status": None}  # what it says depends on who may do what, not on rules for objects
    if body.get("kind") == "TokenRequest":
        body = {**body, "status": {**body["status"], "token": "<token>"}}
    return Verdict(code, (), _masked(body, known, ()))


def is_alike(theirs: Any, ours: Any) -> bool:
    """Whether two masked objects are the same object.

    Null is absent, and so is a zero (false, "", [], {}) that only Kybern shows: upstream leaves some out that a client
    has written. The other way round a default is missing.
    """
    if isinstance(theirs, dict) and isinstance(ours, dict):
        if not all(key in theirs or not value for key, value in ours.items()):
            return False
        return all(is_alike(value, ours.get(key)) for key, value in theirs.items())
    if isinstance(theirs, list) and isinstance(ours, list):
        return len(theirs) == len(ours) and all(map(is_alike, theirs, ours))
    return bool(theirs is None and not ours) or (theirs == ours and type(theirs) is type(ours))


def _plain(message: str) -> str:
    message = _STRUCT.sub(r"\1: ...: ", message).split("\n")[0]
    return _UID.sub("<uid>", _STRUCT_ALONE.sub(r"\1: ...", message))


def _scalars(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _scalars(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _scalars(inner)
    else:
        yield value


def _masked(value: Any, known: set[Any], path: tuple[str, ...]) -> Any:
    """`value` without what a server makes up; what the client sent (`known`) is never masked."""
    if isinstance(value, dict):
        return {
            key: _masked(inner, known, (*path, key))
            for key, inner in sorted(value.items())
            if not (path == ("metadata",) and key in _OF_THE_SERVER)
        }
    if isinstance(value, list):
        return [_masked(inner, known, path) for inner in value if not _is_foreign(inner)]
    if value in known:
        return value
    if path and path[-1] in _GIVEN:
        return "<given>"
    if isinstance(value, str):
        if _TIME.match(value):
            return "<time>"
        if _TOKEN_VOLUME.match(value):
            return "<token volume>"
        if path == ("metadata", "name"):
            return "<generated>"
        return _UID.sub("<uid>", value)
    return value


def _is_foreign(item: Any) -> bool:
    """What a distribution of the reference server mixes into the volumes of tokens."""
    source = item.get("configMap") if isinstance(item, dict) else None
    return isinstance(source, dict) and source.get("name") == "openshift-service-ca.crt"


def replay(
    bases: Sequence[dict[str, Any]],
    surroundings: Sequence[dict[str, Any]],
    writes: Sequence[Write],
    now: datetime.datetime,
) -> list[Verdict]:
    """What Kybern answers to `writes`, none of which is kept, at the moment `now`.

    `surroundings` are objects that are always there, `bases` those that are there for changes but not for creates; all
    in the version that is stored.
    """
    found: dict[int, Verdict] = {}
    for is_new in (True, False):
        numbers = [i for i, write in enumerate(writes) if (write.base is None) is is_new]
        chosen = [writes[i] for i in numbers]
        found |= zip(numbers, _answers([] if is_new else bases, surroundings, chosen, now), strict=True)
    return [found[i] for i in range(len(writes))]


def _answers(
    bases: Sequence[dict[str, Any]],
    surroundings: Sequence[dict[str, Any]],
    writes: Sequence[Write],
    now: datetime.datetime,
) -> list[Verdict]:
    async def scenario(api: api_server.Api) -> list[Verdict]:
        found = []
        for write in writes:
            body = write.sent if write.base is None else await _at_its_revision(api, write, bases[write.base])
            answer = await api.request(write.method, write.path + QUERY, body)
            found.append(verdict(answer.status, msgspec.json.decode(answer.body), write.sent))
        return found

    store = MemoryStore()
    asyncio.run(_fill(store, [*bases, *surroundings]))
    key, public = keys_of_accounts()
    options = {
        "service_account_signing_key": key,
        "service_account_public_key": public,
        "service_account_issuer": "https://kubernetes.default.svc",
    }
    return api_server.run(scenario, store=store, clock=FakeClock(now), options=options)


def keys_of_accounts() -> tuple[bytes, bytes]:
    """A new key pair, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    form, encoding = serialization.PrivateFormat.PKCS8, serialization.Encoding.PEM
    public = key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
    return key.private_bytes(encoding, form, serialization.NoEncryption()), public


async def _fill(store: MemoryStore, bases: Sequence[dict[str, Any]]) -> None:
    for base in bases:
        resource = scheme.kind_of(base["apiVersion"], base["kind"])
        assert resource is not None, base["kind"]
        meta = {key: value for key, value in base["metadata"].items() if key != "resourceVersion"}
        place = keys.key_of(keys.prefix_of(resource), meta.get("namespace", ""), meta["name"])
        await store.create(place, msgspec.json.encode({**base, "metadata": meta}))


async def _at_its_revision(api: api_server.Api, write: Write, base: Mapping[str, Any]) -> dict[str, Any]:
    """The body with the object's revision here, where it carries its revision there."""
    revision = base["metadata"]["resourceVersion"]
    if not any(holder.get("resourceVersion") == revision for holder in _preconditions(write.sent)):
        return write.sent
    current = (await api.get(write.path.removesuffix(f"/{write.subresource}"))).json
    here = current.get("metadata", {}).get("resourceVersion", "")
    moved: dict[str, Any] = _replaced(write.sent, revision, here)
    return moved


def _preconditions(sent: Any) -> Iterator[dict[str, Any]]:
    """Where a body says which revision it is about."""
    options = sent.get("deleteOptions")
    for holder in (sent.get("metadata"), options.get("preconditions") if isinstance(options, dict) else None):
        if isinstance(holder, dict):
            yield holder


def _replaced(value: Any, there: str, here: str) -> Any:
    if not isinstance(value, dict):
        return value
    return {
        key: here if key == "resourceVersion" and inner == there else _replaced(inner, there, here)
        for key, inner in value.items()
    }
