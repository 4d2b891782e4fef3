"""Conversations with an API server, recorded from a v1.36 one: each question with what of its answer must be the same.

Read from JSON lines by tests, which ask a server of `api_server` the same, in order. What a server makes up (uids,
revisions, times, addresses) is masked on both sides. A step may keep a value of its answer for questions after it.
"""

from __future__ import annotations

import lzma
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from kybern.testing.api_server import Answer, Api

_MADE_UP = frozenset({
    "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "managedFields", "selfLink", "continue",
    "remainingItemCount", "clusterIP", "clusterIPs", "nodePort", "healthCheckNodePort", "token",
})  # fmt: skip
_SORTED = orjson.OPT_SORT_KEYS
_UID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NUMBER = re.compile(r"\b\d{2,}\b")
# Told also where they are zero or empty; of other fields that is as good as absent.
_TOLD = frozenset({"details", "deletionGracePeriodSeconds"})
_VOLUME = re.compile(r"kube-api-access-[a-z0-9]{5}")
_TIME = re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S*")


@dataclass(frozen=True, slots=True)
class Step:
    """One question. In `path` and `body`, `<name>` stands for what an earlier step kept under that name."""

    method: str
    path: str
    body: Any = None
    accept: str = "application/json"
    content: str = "application/json"  # Content-Type, where there is a body
    keep: Mapping[str, str] = field(default_factory=dict)  # name -> dotted path in the answer
    whole: bool = False  # the body of a success counts as well
    # Addresses and ports that the question chose: told as they are, where what a server makes up is masked.
    chosen: Sequence[str] = ()

    def filled(self, kept: Mapping[str, str]) -> tuple[str, bytes]:
        """Path and body with what was kept in their places."""
        text = (
            self.body if isinstance(self.body, str) else "" if self.body is None else orjson.dumps(self.body).decode()
        )
        path = self.path
        for name, value in kept.items():
            path, text = path.replace(f"<{name}>", value), text.replace(f"<{name}>", value)
        return path, text.encode()


def told(step: Step, code: int, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """What of an answer is compared."""
    found: dict[str, Any] = {"code": code}
    if headers.get("content-type") not in (None, "", "application/json"):
        found["type"] = headers["content-type"]
    if "warning" in headers:
        found["warning"] = _masked_text(headers["warning"].replace("\n", ", "))
    try:
        document = orjson.loads(body)
    except ValueError:
        if found.get("type", "").startswith("text/"):
            found["text"] = body[:40].decode("latin-1")
        return found
    if not isinstance(document, dict):
        return found
    if str(document.get("kind")).endswith("Review"):
        document.get("metadata", {}).pop("managedFields", None)  # questions have no owners here
    if document.get("kind") == "Status" and code >= 400:
        _settle_causes(document)
        found |= {
            key: masked(document[key]) for key in ("reason", "message", "details") if document.get(key) is not None
        }
    elif step.whole:
        found["body"] = masked(document, frozenset(step.chosen))
    else:
        found["kind"] = document.get("kind", "")
    return found


def _settle_causes(status: dict[str, Any]) -> None:
    """Several causes are a set: upstream tells some twice, and in any order; the message repeats them."""
    details = status.get("details") or {}
    causes = details.get("causes") or []
    if len(causes) > 1:
        details["causes"] = [orjson.loads(one) for one in sorted({orjson.dumps(c, option=_SORTED) for c in causes})]
        status["message"] = None


def masked(value: Any, chosen: frozenset[str] = frozenset()) -> Any:
    """A value without what a server makes up; what says nothing is as good as absent."""
    if isinstance(value, dict):
        if isinstance(value.get("items"), list):
            # Items tell their kind here, as the same bytes do elsewhere; upstream leaves it out of lists.
            items = [{k: v for k, v in each.items() if k not in ("kind", "apiVersion")} for each in value["items"]]
            value = value | {"items": items}
        shown = {
            key: _hidden(inner, chosen) if key in _MADE_UP and inner != "" else masked(inner, chosen)
            for key, inner in value.items()
            if inner is not None
        }
        return {key: inner for key, inner in shown.items() if key in _TOLD or inner not in ("", [], {}, 0)}
    if isinstance(value, list):
        return [masked(inner, chosen) for inner in value]
    return _masked_text(value) if isinstance(value, str) else value


def _hidden(value: Any, chosen: frozenset[str]) -> Any:
    """`*` for what a server made up; with values that were chosen, of a list each for itself."""
    if chosen and isinstance(value, list):
        return [_hidden(inner, chosen) for inner in value]
    return value if str(value) in chosen else "*"


def _masked_text(text: str) -> str:
    return _NUMBER.sub("N", _TIME.sub("TIME", _UID.sub("UID", _VOLUME.sub("VOLUME", text))))


def kept_of(step: Step, body: bytes) -> dict[str, str]:
    """What a step keeps of its answer."""
    found = {}
    for name, path in step.keep.items():
        value: Any = orjson.loads(body)
        for part in path.split("."):
            value = value[int(part)] if isinstance(value, list) else value[part]
        found[name] = str(value)
    return found


def read(file: pathlib.Path) -> list[tuple[Step, dict[str, Any] | None]]:
    """Steps with what they were answered, out of compressed JSON lines. None: asked for its effect alone."""
    cases = []
    for line in lzma.decompress(file.read_bytes()).splitlines():
        case = orjson.loads(line)
        answer = case.pop("answer")
        cases.append((Step(**case), answer))
    return cases


async def replay(api: Api, cases: Iterable[tuple[Step, dict[str, Any] | None]]) -> list[str]:
    """Ask all, in order; each difference as a line."""
    kept: dict[str, str] = {}
    wrong = []
    for step, expected in cases:
        path, body = step.filled(kept)
        headers = {"accept": step.accept} | ({"content-type": step.content} if body else {})
        answer: Answer = await api.request(step.method, path, body, headers)
        found = told(step, answer.status, answer.headers, b"" if step.method == "HEAD" else answer.body)
        if expected is not None and found != expected:
            wrong.append(f"{step.method} {path} {body[:300].decode()}\n  upstream {expected}\n  here     {found}")
        elif answer.status < 300:
            kept |= kept_of(step, answer.body)
    return wrong
