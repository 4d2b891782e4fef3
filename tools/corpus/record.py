"""Record what a reference API server says to the corpus, and compare it with what Kybern says.

    python -m tools.corpus.record ask  --server https://127.0.0.1:6443 --token t --out all.jsonl.xz
    python -m tools.corpus.record compare all.jsonl.xz [--kind v1/Pod] [--show 5]
    python -m tools.corpus.record sample all.jsonl.xz --out tests/.../corpus.jsonl.xz --count 3000

The reference server should have its default admission, no controllers beside it, and nothing in it that matters:
objects to update are created there, in the namespace default. All else is a dry run.
"""

from __future__ import annotations

import argparse
import datetime
import lzma
import pathlib
import re
import secrets
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import orjson

from kybern.machinery import scheme
from kybern.testing import agreement
from tools.corpus import ask, compare, generate, seeds

# What replies say nothing about rules: a race with the server's own controllers, or its own trouble.
_NO_ANSWER = (0, 500, 503, 504)
# How many writes of the subresources that few kinds have.
_FEW = {"ephemeralcontainers": 300, "resize": 300, "approval": 150, "finalize": 100}
# What is there before anything is made.
_SURROUNDINGS = ("/api/v1/namespaces/default/serviceaccounts/default", f"/api/v1/namespaces/{generate.APART}")


def main() -> None:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    asking = commands.add_parser("ask")
    asking.add_argument("--server", required=True)
    asking.add_argument("--token", required=True)
    asking.add_argument("--out", type=pathlib.Path, required=True)
    asking.add_argument("--number", type=int, default=1)
    asking.add_argument("--creates", type=int, default=11000)
    asking.add_argument("--updates", type=int, default=8000)
    asking.add_argument("--statuses", type=int, default=4000)
    asking.add_argument("--forms", type=int, default=1600)
    comparing = commands.add_parser("compare")
    comparing.add_argument("file", type=pathlib.Path)
    comparing.add_argument("--kind", default="")
    comparing.add_argument("--verb", default="")
    comparing.add_argument("--show", type=int, default=1)
    comparing.add_argument("--limit", type=int, default=60)
    sampling = commands.add_parser("sample")
    sampling.add_argument("file", type=pathlib.Path)
    sampling.add_argument("--out", type=pathlib.Path, required=True)
    sampling.add_argument("--count", type=int, default=3000)
    chosen = parser.parse_args()
    if chosen.command == "ask":
        record(chosen)
    elif chosen.command == "compare":
        compare.report(*load(chosen.file), chosen)
    else:
        sample(chosen)


def record(chosen: argparse.Namespace) -> None:
    server = ask.Server(chosen.server, chosen.token)
    maker = generate.Generator(chosen.number)
    remove_bases(server)
    surroundings = [server.ask("GET", path).body for path in _SURROUNDINGS]
    moment = now()
    asked = [(case, *generate.target_of(case.sent, "create")) for case in maker.creates(chosen.creates)]
    began = time.monotonic()
    answers = server.ask_all((method, path + agreement.QUERY, case.sent) for case, method, path in asked)
    shown, stored = make_bases(server)
    changes = maker.updates(shown, chosen.updates) + maker.forms(shown, chosen.forms)
    for verb, count in (("status", chosen.statuses), *_FEW.items()):
        changes += maker.updates(shown, count, verb)
    changed = []
    for case in changes:
        assert case.base is not None
        base = shown[case.base]
        changed.append((case, *generate.target_of(base, case.verb, base["metadata"]["name"])))
    answers += server.ask_all((method, path + agreement.QUERY, case.sent) for case, method, path in changed)
    print(len(answers), "cases")
    lines: list[dict[str, Any]] = [{"now": moment, "bases": stored, "surroundings": surroundings}]
    for (case, method, path), answer in zip(asked + changed, answers, strict=True):
        if answer.status in _NO_ANSWER:
            continue
        said = agreement.verdict(answer.status, answer.body, case.sent)
        lines.append(
            {
                "kind": case.kind, "verb": case.verb, "what": case.what, "method": method, "path": path,
                "base": case.base, "sent": case.sent, "code": said.code, "faults": said.faults, "stored": said.stored,
                "message": answer.body.get("message") if said.code >= 300 else None,
            }
        )  # fmt: skip
    unanswered = Counter(answer.status for answer in answers if answer.status in _NO_ANSWER)
    print(len(lines) - 1, "answers in", round(time.monotonic() - began), "s; left out by code:", dict(unanswered))
    save(chosen.out, lines)


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat()


def remove_bases(server: ask.Server) -> None:
    """Take away what an earlier run left."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": generate.APART}}
    server.ask("POST", "/api/v1/namespaces", namespace)
    for seed in seeds.load():
        resource = scheme.kind_of(seed["apiVersion"], seed["kind"])
        if resource is not None and "get" in resource.verbs:
            place = generate.target_of(seed, "create")[1]
            for left in server.ask("GET", place).body.get("items") or ():
                if left["metadata"]["name"] != "exempt" and _is_left(left["metadata"], seed):
                    _remove(server, f"{place}/{left['metadata']['name']}")


def _is_left(meta: dict[str, Any], seed: dict[str, Any]) -> bool:
    """By an earlier run: under the name that its seed gives, or one that make_bases has made up."""
    return (
        meta["name"] == seed["metadata"].get("name") or re.fullmatch(r"b[0-9a-f]{6}-[0-9]+", meta["name"]) is not None
    )


def make_bases(server: ask.Server) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Store every seed that can be stored; (as its version shows it, as it is stored)."""
    prefix = "b" + secrets.token_hex(3)
    made = []
    for seed in generate.stored_seeds(prefix):
        resource = scheme.kind_of(seed["apiVersion"], seed["kind"])
        seed["metadata"].pop("ownerReferences", None)  # would be collected
        name = seed["metadata"]["name"]
        made.append((seed, name, resource))
        method, path = generate.target_of(seed, "create")
        answer = server.ask(method, path, seed)
        if answer.status >= 300 and answer.status != 409:
            print("no base:", seed["kind"], name, answer.body.get("message"))
            made.pop()
    time.sleep(3)  # the server's own controllers have their say about custom resources
    for seed, name, _ in made:
        if seed.get("status") and generate.has_subresource(seed, "status"):
            path = generate.target_of(seed, "update", name)[1]
            current = server.ask("GET", path).body
            answer = server.ask("PUT", path + "/status", {**current, "status": seed["status"]})
            if answer.status >= 300:
                print("no status:", seed["kind"], name, answer.body.get("message"))
    time.sleep(1)
    shown, stored = [], []
    for seed, name, resource in made:
        found = server.ask("GET", generate.target_of(seed, "update", name)[1]).body
        if "metadata" not in found or found.get("kind") == "Status":
            print("gone:", seed["kind"], name)
            continue
        found["metadata"].pop("managedFields", None)
        kept = next(r for r in scheme.RESOURCES if r.plural == resource.plural and _family(r) == _family(resource))
        other = server.ask("GET", generate.target_of({**seed, "apiVersion": kept.api_version}, "update", name)[1]).body
        other["metadata"].pop("managedFields", None)
        shown.append(found)
        stored.append(other)
    return shown, stored


def _remove(server: ask.Server, path: str) -> None:
    """Delete an object and wait until it is gone; nobody else takes off its finalizers."""
    for _ in range(10):
        if server.ask("DELETE", path + "?gracePeriodSeconds=0").status == 404:
            return
        found = server.ask("GET", path)
        if found.status == 200 and found.body["metadata"].get("finalizers"):
            found.body["metadata"]["finalizers"] = []
            server.ask("PUT", path, found.body)
        time.sleep(0.05)


def _family(resource: Any) -> str:
    return "events" if resource.plural == "events" else str(resource.group)


def save(path: pathlib.Path, lines: Sequence[Any]) -> None:
    with lzma.open(path, "wb", preset=6) as file:
        for line in lines:
            file.write(orjson.dumps(line) + b"\n")


def load(path: pathlib.Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The head (moment, bases) and the cases."""
    with lzma.open(path) as file:
        head, *cases = (orjson.loads(line) for line in file)
    return head, cases


def sample(chosen: argparse.Namespace) -> None:
    head, cases = load(chosen.file)
    save(chosen.out, compare.representative(head, cases, chosen.count))


if __name__ == "__main__":
    main()
