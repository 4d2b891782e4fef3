"""Real etcd for tests: members on loopback or on hosts of a switch, and a store that begins anew for each test.

`Member` runs Debian's etcd with a data directory of the test's. `Fresh` shows a store below a prefix of its own, with
revisions counted from where the test began: what the contract promises of a new store can then be asked of an old one.
"""

from __future__ import annotations

import contextlib
import datetime
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kybern.pki.certificates import Profile, generate_key, issue
from kybern.storage.etcd.store import EtcdStore
from kybern.storage.etcd.watch import EtcdWatch
from kybern.storage.interface import (
    Change,
    Compacted,
    FutureRevision,
    KeyExists,
    Page,
    Record,
    Revision,
    RevisionMismatch,
    Watch,
)


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files that members and their clients share."""

    ca: Path
    certificate: Path
    key: Path

    @property
    def flags(self) -> tuple[str, ...]:
        ca, certificate, key = str(self.ca), str(self.certificate), str(self.key)
        return (
            *("--client-cert-auth", "--trusted-ca-file", ca, "--cert-file", certificate, "--key-file", key),
            *("--peer-client-cert-auth", "--peer-trusted-ca-file", ca),
            *("--peer-cert-file", certificate, "--peer-key-file", key),
        )


def make_certificates(folder: Path, addresses: Sequence[str] = ("127.0.0.1",)) -> Certificates:
    """An authority of etcd's own, and one certificate for members (at these addresses) and for clients."""
    now = datetime.datetime.now(datetime.UTC)
    ca = issue(Profile("etcd-ca", is_ca=True), None, now, generate_key())
    profile = Profile("etcd", names=("localhost",), addresses=tuple(addresses), server=True, client=True)
    leaf = issue(profile, ca, now, generate_key())
    made = Certificates(folder / "etcd-ca.crt", folder / "etcd.crt", folder / "etcd.key")
    made.ca.write_bytes(ca.certificate_pem)
    made.certificate.write_bytes(leaf.certificate_pem)
    made.key.write_bytes(leaf.key_pem)
    return made


@dataclass(frozen=True, slots=True)
class Place:
    """Where a member listens, and what its command begins with to be run there."""

    client: int
    peer: int
    address: str = "127.0.0.1"
    before: tuple[str, ...] = ()


class Member:
    """One etcd process. `start` it; what it wrote stays in `folder`."""

    def __init__(
        self,
        folder: Path,
        name: str,
        place: Place,
        cluster: str,
        flags: Sequence[str] = (),
        scheme: str = "http",
    ) -> None:
        self.name = name
        self.url = f"{scheme}://{place.address}:{place.client}"
        here = f"{scheme}://{place.address}:{place.peer}"
        self._place = place
        self._log = folder / f"{name}.log"
        self._command = [
            *(*place.before, "etcd", "--name", name, "--data-dir", str(folder / name), "--logger", "zap"),
            *("--listen-client-urls", self.url, "--advertise-client-urls", self.url),
            *("--listen-peer-urls", here, "--initial-advertise-peer-urls", here),
            *("--initial-cluster", cluster, "--initial-cluster-state", "new", *flags),
        ]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def wait(self, seconds: float = 20.0) -> None:
        """Until it takes connections. Raises TimeoutError."""
        end = time.monotonic() + seconds
        address = (self._place.address, self._place.client)
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(address, 0.5):
                return
            time.sleep(0.05)
        raise TimeoutError(f"etcd does not listen: {self._log.read_text()[-2000:]}")

    def pause(self) -> None:
        """It holds its connections and says nothing, as behind a network that loses all."""
        if self.process is not None:
            self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """At once, as a power failure would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def cluster(
    folder: Path,
    size: int,
    flags: Sequence[str] = (),
    certificates: Certificates | None = None,
    places: Sequence[Place] = (),
) -> list[Member]:
    """Members of one cluster, not started. With certificates all they say is encrypted, and clients show theirs."""
    ports = free_ports(2 * size)
    where = places or [Place(ports[2 * i], ports[2 * i + 1]) for i in range(size)]
    scheme = "http" if certificates is None else "https"
    peers = ",".join(f"m{i}={scheme}://{place.address}:{place.peer}" for i, place in enumerate(where))
    flags = (*flags, *(certificates.flags if certificates else ()))
    return [Member(folder, f"m{i}", place, peers, flags, scheme) for i, place in enumerate(where)]


class Fresh:
    """A Store as if nothing had been written to it before. Revisions of etcd start at 1, so does an unused one."""

    def __init__(self, inner: EtcdStore, root: str, begun: Revision) -> None:
        self._inner = inner
        self._root = root
        self._begun = begun

    @property
    def revision(self) -> Revision:
        return self._out(self._inner.revision)

    @property
    def is_shared(self) -> bool:
        return self._inner.is_shared

    @property
    def superseded_bytes(self) -> int:
        return 0

    async def refresh(self) -> Revision:
        return self._out(await self._inner.refresh())

    @property
    def oldest(self) -> Revision:
        return self._out(self._inner.oldest)

    async def get(self, key: str, revision: Revision | None = None) -> Record | None:
        with self.told():
            found = await self._inner.get(self._root + key, self._in(revision))
        return None if found is None else self._record(found)

    async def list(self, prefix: str, *, limit: int = 0, after: str = "", revision: Revision | None = None) -> Page:
        with self.told():
            page = await self._inner.list(
                self._root + prefix, limit=limit, after=after and self._root + after, revision=self._in(revision)
            )
        return Page([self._record(r) for r in page.records], self._out(page.revision), page.more, page.remaining)

    async def create(self, key: str, value: bytes) -> Record:
        with self.told():
            return self._record(await self._inner.create(self._root + key, value))

    async def update(self, key: str, value: bytes, expected: Revision | None) -> Record:
        with self.told():
            return self._record(await self._inner.update(self._root + key, value, self._in(expected)))

    async def delete(self, key: str, expected: Revision | None) -> Record:
        with self.told():
            return self._record(await self._inner.delete(self._root + key, self._in(expected)))

    def watch(self, prefix: str, since: Revision) -> Watch:
        with self.told():
            return _FreshWatch(self, self._inner.watch(self._root + prefix, Revision(since + self._begun)))

    async def compact(self, revision: Revision) -> None:
        with self.told():
            await self._inner.compact(Revision(revision + self._begun))

    async def close(self) -> None:
        await self._inner.close()

    def change(self, change: Change) -> Change:
        record, previous = change.record, change.previous
        return Change(
            self._out(change.revision),
            change.key.removeprefix(self._root),
            None if record is None else self._record(record),
            None if previous is None else self._record(previous),
        )

    def _in(self, revision: Revision | None) -> Revision | None:
        return None if revision is None else Revision(revision + self._begun)

    def _out(self, revision: Revision) -> Revision:
        return Revision(revision - self._begun)

    def _record(self, record: Record) -> Record:
        key = record.key.removeprefix(self._root)
        return Record(key, record.value, self._out(record.create_revision), self._out(record.mod_revision))

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        try:
            yield
        except (KeyExists, RevisionMismatch) as error:
            raise type(error)(self._record(error.record)) from error
        except Compacted as error:
            raise Compacted(self._out(error.oldest)) from error
        except FutureRevision as error:
            raise FutureRevision(self._out(error.current)) from error


class _FreshWatch:
    def __init__(self, store: Fresh, inner: EtcdWatch) -> None:
        self._store = store
        self._inner = inner

    async def begin(self) -> None:
        with self._store.told():
            await self._inner.begin()

    async def __aiter__(self) -> AsyncIterator[Sequence[Change]]:
        with self._store.told():
            async for batch in self._inner:
                yield [self._store.change(change) for change in batch]

    async def close(self) -> None:
        await self._inner.close()


async def begin(store: EtcdStore, root: str) -> Fresh:
    """A fresh view of a store, whose history before is gone."""
    await store.compact(store.revision)
    return Fresh(store, root, store.revision)


def run(members: Sequence[Member]) -> None:
    """Start all and wait for all."""
    for member in members:
        member.start()
    for member in members:
        member.wait()


__all__ = ["Fresh", "Member", "Place", "begin", "cluster", "free_ports", "make_certificates", "run"]
