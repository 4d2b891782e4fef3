"""Does a kube-apiserver serve unchanged what Kybern wrote, and Kybern what kube-apiserver wrote, on the same etcd?

`KYBERN_PEER_APISERVER=/path/to/kube-apiserver python tools/interchange.py`. The two take turns on one etcd: each writes
every kind of object there is (the seeds of tools/corpus with their statuses, custom resources, Secrets), then the other
one shows all of it, in every version it serves, changes each object, and the first one shows that. Once with Secrets in
plain text, once encrypted with keys that both are given. What may differ is in `ALLOWED`, with the reason.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from kybern import pki
from kybern.client.clock import RealClock
from kybern.testing import etcd
from tools.corpus import ask, generate

TOKEN = "test-token"
PEER = "KYBERN_PEER_APISERVER"
Key = tuple[str, str, str, str]  # apiVersion, plural, namespace, name
Objects = dict[Key, Any]

# Not stored, or a server's own: each writes its anew when it starts, and takes them away when it ends.
OWN = frozenset({"componentstatuses"})
IDENTITY = "apiserver.kubernetes.io/identity"
OWN_NAMES = frozenset({("endpoints", "kubernetes"), ("endpointslices", "kubernetes"), ("servicecidrs", "kubernetes")})

# (plural, path) -> why the one may show nothing where the other shows "", 0, false or an empty list. These mean the
# same to every client: the field has no other way to be absent in Go.
ALLOWED: Mapping[tuple[str, str], str] = {
    ("events", "reportingComponent"): "upstream never leaves it out",
    ("events", "reportingController"): "the same field, as events.k8s.io names it",
    ("events", "reportingInstance"): "upstream never leaves it out",
    ("jobs", "status.active"): "Kybern keeps a zero that was written, upstream never shows one",
    ("priorityclasses", "globalDefault"): "Kybern keeps a false that was written, upstream never shows one",
    ("customresourcedefinitions", "spec.preserveUnknownFields"): "upstream stores it by the rules of v1beta1",
    ("endpointslices", "ports"): "upstream shows no ports as [] or null, as they were written",
}


@dataclass
class Turns:
    """Where the servers keep their things, and how each is started."""

    folder: Path
    store: str
    port: int
    is_encrypted: bool
    made: list[tuple[Any, str]] = field(default_factory=list)  # seeds that were stored, and their names

    def __post_init__(self) -> None:
        self.pki = pki.ensure(self.folder, names=["test"], addresses=["127.0.0.1"], clock=RealClock())
        (self.folder / "tokens.csv").write_text(f"{TOKEN},test,1,system:masters\n")
        self.keys = self.folder / "encryption.yaml"
        one, other = (base64.b64encode(secrets.token_bytes(32)).decode() for _ in range(2))
        providers = [
            {"aesgcm": {"keys": [{"name": "new", "secret": one}]}},
            {"secretbox": {"keys": [{"name": "old", "secret": other}]}},
            {"identity": {}},
        ]
        if not self.keys.exists():
            kind = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration"}
            resources = [{"resources": ["secrets", "configmaps", f"ours.{GROUP}"], "providers": providers}]
            self.keys.write_text(json.dumps({**kind, "resources": resources}))

    def _flags(self) -> list[str]:
        flags = {
            "etcd-servers": self.store,
            "secure-port": self.port,
            "bind-address": "127.0.0.1",
            "advertise-address": "192.0.2.1",
            "token-auth-file": self.folder / "tokens.csv",
            "client-ca-file": self.pki.ca,
            "tls-cert-file": self.pki.certificate("apiserver"),
            "tls-private-key-file": self.pki.key("apiserver"),
            "service-account-key-file": self.pki.directory / "sa.pub",
            "service-account-signing-key-file": self.pki.directory / "sa.key",
            "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
            "service-cluster-ip-range": "10.96.0.0/12",
        }
        if self.is_encrypted:
            flags["encryption-provider-config"] = self.keys
        return [f"--{name}={value}" for name, value in flags.items()]

    @contextlib.contextmanager
    def kybern(self) -> Iterator[ask.Server]:
        with self._running("kybern", [sys.executable, "-m", "kybern.cli.main", "apiserver"]) as server:
            yield server

    @contextlib.contextmanager
    def upstream(self) -> Iterator[ask.Server]:
        # What Kybern does unasked.
        flags = ("--storage-media-type=application/json", "--authorization-mode=Node,RBAC", "--allow-privileged=true")
        command = [os.environ[PEER], *flags]
        with self._running("upstream", command) as server:
            yield server

    @contextlib.contextmanager
    def _running(self, name: str, command: list[str]) -> Iterator[ask.Server]:
        log = self.folder / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen([*command, *self._flags()], stdout=output, stderr=output)
        try:
            server = ask.Server(f"https://127.0.0.1:{self.port}", TOKEN)
            end = time.monotonic() + 90
            while server.ask("GET", "/readyz").status != 200:
                if process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"{name} does not serve: {log.read_text()[-2000:]}")
                time.sleep(0.2)
            time.sleep(2)  # it writes what every cluster has: roles, priority levels, its own Service
            yield server
        finally:
            process.terminate()
            process.wait(30)


GROUP = "interchange.kybern.io"
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": f"ours.{GROUP}"},
    "spec": {
        "group": GROUP,
        "scope": "Namespaced",
        "names": {"plural": "ours", "singular": "our", "kind": "Our", "listKind": "OurList", "shortNames": ["ou"]},
        "versions": [
            {
                "name": name,
                "served": True,
                "storage": name == "v1",
                "subresources": {
                    "status": {},
                    "scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"},
                },
                "additionalPrinterColumns": [{"name": "N", "type": "integer", "jsonPath": ".spec.n"}],
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {
                                    "n": {"type": "integer", "default": 3, "maximum": 9},
                                    "port": {"x-kubernetes-int-or-string": True},
                                    "rest": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                                },
                                "x-kubernetes-validations": [{"rule": "self.n < 9", "message": "too many"}],
                            },
                            "status": {"type": "object", "properties": {"n": {"type": "integer"}}},
                        },
                    }
                },
            }
            for name in ("v1beta1", "v1")
        ],
    },
}


def customs(prefix: str) -> list[Any]:
    rest = {"text": "ä<&>\u2028", "number": 1.5, "large": 1 << 53, "list": [{}, [], None, True]}
    spec = {"port": "http", "rest": rest}
    return [
        {"apiVersion": f"{GROUP}/{version}", "kind": "Our", "metadata": {"name": f"{prefix}-{version}"}, "spec": spec}
        for version in ("v1beta1", "v1")
    ]


def fill(server: ask.Server, turns: Turns, prefix: str) -> list[tuple[str, str]]:
    """Store every seed and some custom resources; returns where each is, and its kind."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": generate.APART}}
    server.ask("POST", "/api/v1/namespaces", namespace)
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    for name in ("default", generate.APART):
        server.ask("POST", f"/api/v1/namespaces/{name}/serviceaccounts", account)
    places = []
    for seed in generate.stored_seeds(prefix):
        method, path = generate.target_of(seed, "create")
        answer = server.ask(method, path, seed)
        if answer.status == 409:
            continue  # its name cannot be chosen: the other one has made it
        if answer.status != 201:
            print(
                f"  not stored: {seed['kind']} {seed['metadata']['name']}: {answer.status} {answer.body.get('message')}"
            )
            continue
        where = generate.target_of(seed, "update", answer.body["metadata"]["name"])[1]
        places.append((where, seed["kind"]))
        if seed.get("status") and generate.has_subresource(seed, "status"):
            for _ in range(5):  # the server itself may be writing it too
                status = {**server.ask("GET", where).body, "status": seed["status"]}
                if (answer := server.ask("PUT", where + "/status", status)).status != 409:
                    break
            if answer.status != 200:
                print(f"  no status: {seed['kind']}: {answer.body.get('message')}")
    server.ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", DEFINITION)
    for custom in customs(prefix):
        path = f"/apis/{custom['apiVersion']}/namespaces/default/ours"
        end = time.monotonic() + 20
        while (answer := server.ask("POST", path, custom)).status != 201:
            if time.monotonic() > end:
                raise RuntimeError(f"{path}: {answer.status} {answer.body}")
            time.sleep(0.2)
        places.append((f"{path}/{custom['metadata']['name']}", "Our"))
    return places


def touch(server: ask.Server, places: list[tuple[str, str]], value: str) -> Counter[str]:
    """Change each object a little; returns the kinds that could not be."""
    refused: Counter[str] = Counter()
    for where, kind in places:
        found = server.ask("GET", where)
        if found.status != 200:
            print(f"  {where}: {found.status}")
            refused[kind] += 1
            continue
        found.body["metadata"].setdefault("annotations", {})["touched"] = value
        answer = server.ask("PUT", where, found.body)
        if answer.status != 200:
            print(f"  {where}: {answer.status} {answer.body.get('message')}")
            refused[kind] += 1
    return refused


def dump(server: ask.Server) -> Objects:
    """All there is, in every version, as a list shows it."""
    found: Objects = {}
    versions = ["v1"]
    for group in server.ask("GET", "/apis").body["groups"]:
        versions += [version["groupVersion"] for version in group["versions"]]
    for version in versions:
        base = "/api/v1" if version == "v1" else f"/apis/{version}"
        served = server.ask("GET", base)
        if served.status == 503:
            continue  # of a server behind this one, which an APIService of the seeds names and nobody runs
        for resource in served.body["resources"]:
            plural = resource["name"]
            if "/" in plural or "list" not in resource["verbs"] or plural in OWN:
                continue
            listed = server.ask("GET", f"{base}/{plural}")
            if listed.status != 200:
                raise RuntimeError(f"LIST {base}/{plural}: {listed.status} {listed.body}")
            for item in listed.body["items"]:
                meta = item["metadata"]
                if (plural, meta["name"]) in OWN_NAMES or meta.get("labels", {}).get(IDENTITY) == "kube-apiserver":
                    continue
                item.pop("apiVersion", None)  # Kybern's items say what they are, as objects do that are read alone
                item.pop("kind", None)
                found[version, plural, meta.get("namespace", ""), meta["name"]] = item
    return found


def unlike(ours: Any, theirs: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two objects differ."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in sorted(ours.keys() | theirs.keys()):
            # An explicit null is absent, to every client.
            yield from unlike(ours.get(name), theirs.get(name), f"{path}.{name}".lstrip("."))
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for one, other in zip(ours, theirs, strict=True):
            yield from unlike(one, other, f"{path}[]")
    elif ours != theirs:
        yield path, ours, theirs


def is_allowed(plural: str, path: str, ours: Any, theirs: Any) -> bool:
    return (plural, path) in ALLOWED and not ours and not theirs


def compare(what: str, written: Objects, served: Objects) -> int:
    """Say what differs; returns in how many objects."""
    same, allowed, wrong = 0, 0, 0
    told: Counter[tuple[str, str]] = Counter()
    for key, obj in written.items():
        plural = key[1]
        if key not in served:
            differences = [("", obj["metadata"]["name"], "(absent)")]
        else:
            differences = list(unlike(obj, served[key]))
        if not differences:
            same += 1
            continue
        rest = [d for d in differences if not is_allowed(plural, *d)]
        if not rest:
            allowed += 1
            continue
        wrong += 1
        for path, ours, theirs in rest:
            told[plural, path] += 1
            if told[plural, path] == 1:
                print(f"  {key[0]} {plural} {key[2]}/{key[3]} {path}: {str(ours)[:200]} -> {str(theirs)[:200]}")
    print(f"{what}: {same} objects alike, {allowed} differ where they may, {wrong} differ", flush=True)
    return wrong


def run(folder: Path, *, is_encrypted: bool) -> int:
    """Both ways; returns how many objects differ."""
    (member,) = etcd.cluster(folder, 1, ("--unsafe-no-fsync",))
    (port,) = etcd.free_ports(1)
    turns = Turns(folder, member.url, port, is_encrypted)
    text = "encrypted" if is_encrypted else "plain"
    etcd.run([member])
    try:
        with turns.kybern() as server:
            ours = fill(server, turns, "a")
            written = dump(server)
        with turns.upstream() as server:
            wrong = compare(f"{text}, Kybern's as kube-apiserver shows it", written, dump(server))
            wrong += sum(touch(server, ours, "upstream").values())
            theirs = fill(server, turns, "b")
            written = dump(server)
        with turns.kybern() as server:
            wrong += compare(f"{text}, kube-apiserver's as Kybern shows it", written, dump(server))
            wrong += sum(touch(server, ours + theirs, "kybern").values())
            written = dump(server)
        with turns.upstream() as server:
            wrong += compare(f"{text}, what Kybern changed as kube-apiserver shows it", written, dump(server))
            wrong += sum(touch(server, ours + theirs, "again").values())
        wrong += stored_plainly(member) if is_encrypted else 0
    finally:
        member.kill()
    return wrong


def stored_plainly(member: etcd.Member) -> int:
    """How many of what is to be encrypted is not."""
    import asyncio

    from kybern.storage.etcd import Endpoints, EtcdStore

    async def look() -> int:
        store = await EtcdStore.open(Endpoints((member.url,)))
        try:
            places = ("/registry/secrets/", "/registry/configmaps/", f"/registry/{GROUP}/ours/")
            pages = [await store.list(place) for place in places]
        finally:
            await store.close()
        records = [record for page in pages for record in page.records]
        plain = [record.key for record in records if not record.value.startswith(b"k8s:enc:")]
        print(f"encrypted in etcd: {len(records) - len(plain)}, not: {plain}")
        return len(plain)

    return asyncio.run(look())


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--keep", type=Path, default=None, help="a folder for logs and data, kept")
    asked = arguments.parse_args()
    if not os.environ.get(PEER):
        print(f"{PEER} names no kube-apiserver: there is nothing to exchange data with")
        return 2
    wrong = 0
    for is_encrypted in (False, True):
        with contextlib.ExitStack() as stack:
            folder = asked.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            place = folder / ("encrypted" if is_encrypted else "plain")
            place.mkdir(parents=True)
            wrong += run(place, is_encrypted=is_encrypted)
    print("all alike" if not wrong else f"{wrong} differences")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
