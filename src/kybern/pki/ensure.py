"""Bring the certificates, keys and kubeconfigs of a cluster into being, and keep them fresh.

Called by `kybern up` at every start (and daily by its supervisor). Idempotent: a second run changes nothing; a file
that is missing, broken, for other names, of another authority or past two thirds of its life is made anew in place.
Authorities keep their key when renewed, so that what they signed stays valid.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kybern.machinery.clock import Clock
from kybern.pki import certificates, encryption, files, kubeconfig
from kybern.pki.certificates import KeyPair, Profile

MASTERS = "system:masters"
NODES = "system:nodes"
# Kubeconfig file -> its user. The kubelets' are added for each node.
COMPONENTS = {
    "admin": Profile("kubernetes-admin", (MASTERS,), client=True),
    "controller-manager": Profile("system:kube-controller-manager", client=True),
    "scheduler": Profile("system:kube-scheduler", client=True),
    "proxy": Profile("system:kube-proxy", client=True),
    "dns": Profile("system:kybern-dns", client=True),
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """What the certificates have to say about this cluster."""

    server: str = "https://127.0.0.1:6443"  # of the kubeconfigs
    domain: str = "cluster.local"
    service_address: str = "10.96.0.1"  # of Service default/kubernetes
    nodes: Mapping[str, Sequence[str]] = field(default_factory=dict)  # name -> its addresses
    node_servers: Mapping[str, str] = field(default_factory=dict)  # where a node reaches the API server by another URL


@dataclass(frozen=True, slots=True)
class Pki:
    """Where everything is, and what this run made anew (file names)."""

    directory: Path  # pki/
    kubeconfigs: Path  # kubeconfig/
    renewed: tuple[str, ...] = ()

    @property
    def ca(self) -> Path:
        return self.directory / "ca.crt"

    @property
    def encryption(self) -> Path:
        """The keys with which the API server encrypts Secrets in its store."""
        return self.directory / "encryption.yaml"

    def certificate(self, name: str) -> Path:
        """ "apiserver", "apiserver-kubelet-client", "front-proxy-ca", "front-proxy-client", "kubelet-<node>"."""
        return self.directory / f"{name}.crt"

    def key(self, name: str) -> Path:
        return self.directory / f"{name}.key"

    def kubeconfig(self, name: str) -> Path:
        """ "admin", "controller-manager", "scheduler", "proxy", "dns", "kubelet-<node>"."""
        return self.kubeconfigs / f"{name}.conf"


def ensure(
    data_dir: Path,
    *,
    names: Sequence[str],
    addresses: Sequence[str],
    clock: Clock,
    cluster: Cluster = Cluster(),
) -> Pki:
    """Make what is missing or ageing under `data_dir`/pki and `data_dir`/kubeconfig.

    `names` and `addresses` are those of this host, under which the API server is reached besides localhost and
    the Service's names. Raises OSError when the directory cannot be written, ValueError on a bad address.
    """
    pki = Pki(data_dir / "pki", data_dir / "kubeconfig")
    files.ensure_directory(pki.directory)
    files.ensure_directory(pki.kubeconfigs)
    work = _Work(pki, clock)
    ca = work.ensure_authority("ca", "kubernetes")
    front_proxy_ca = work.ensure_authority("front-proxy-ca", "front-proxy-ca")
    for name, profile in plan_leaves(names, addresses, cluster).items():
        work.ensure_leaf(name, profile, ca)
    work.ensure_leaf("front-proxy-client", Profile("front-proxy-client", client=True), front_proxy_ca)
    work.ensure_signing_key()
    work.ensure_encryption_key()
    for name, profile in COMPONENTS.items():
        work.ensure_kubeconfig(name, profile, ca, cluster.server)
    for node in cluster.nodes:
        profile = Profile(f"system:node:{node}", (NODES,), client=True)
        work.ensure_kubeconfig(f"kubelet-{node}", profile, ca, cluster.node_servers.get(node, cluster.server))
    return Pki(pki.directory, pki.kubeconfigs, tuple(work.renewed))


def plan_leaves(names: Sequence[str], addresses: Sequence[str], cluster: Cluster) -> dict[str, Profile]:
    """The certificates the cluster's CA signs into files, by file name."""
    service = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{cluster.domain}")
    leaves = {
        "apiserver": Profile(
            "kube-apiserver",
            names=_unique((*service, "localhost", *names)),
            addresses=_unique((cluster.service_address, "127.0.0.1", "::1", *addresses)),
            server=True,
        ),
        "apiserver-kubelet-client": Profile("kube-apiserver-kubelet-client", (MASTERS,), client=True),
    }
    for node, node_addresses in cluster.nodes.items():
        leaves[f"kubelet-{node}"] = Profile(
            f"system:node:{node}",
            (NODES,),
            names=_unique((node, "localhost")),
            addresses=_unique(("127.0.0.1", *node_addresses)),
            server=True,
        )
    return leaves


class _Work:
    """One run: reads, judges, makes anew, and notes what it made."""

    def __init__(self, pki: Pki, clock: Clock) -> None:
        self.pki = pki
        self.now = clock.now()
        self.renewed: list[str] = []

    def ensure_authority(self, name: str, common_name: str) -> KeyPair:
        """An authority that was brought along (another subject, RSA) is used as it is until it ages."""
        path = self.pki.certificate(name)
        try:
            key = certificates.parse_key(files.read(self.pki.key(name)) or b"")
        except ValueError:
            key = certificates.generate_key()
            files.write(self.pki.key(name), certificates.render_key(key), files.SECRET)
        files.restrict(self.pki.key(name), files.SECRET)
        try:
            pair = certificates.parse_pair(files.read(path) or b"", certificates.render_key(key))
            if not certificates.is_ageing(pair.certificate, self.now):
                return pair
        except ValueError:
            pass
        pair = certificates.issue(Profile(common_name, is_ca=True), None, self.now, key)
        files.write(path, pair.certificate_pem, files.PUBLIC)
        self.renewed.append(path.name)
        return pair

    def ensure_leaf(self, name: str, profile: Profile, issuer: KeyPair) -> None:
        certificate, key = self.pki.certificate(name), self.pki.key(name)
        if not self._is_good(files.read(certificate), files.read(key), profile, issuer):
            pair = certificates.issue(profile, issuer, self.now, certificates.generate_key())
            files.write(key, pair.key_pem, files.SECRET)  # first: a crash in between is a mismatch the next run sees
            files.write(certificate, pair.certificate_pem, files.PUBLIC)
            self.renewed.append(certificate.name)
        files.restrict(key, files.SECRET)

    def ensure_kubeconfig(self, name: str, profile: Profile, issuer: KeyPair, server: str) -> None:
        path = self.pki.kubeconfig(name)
        try:
            found = kubeconfig.parse(files.read(path) or b"")
        except ValueError:
            found = None
        ca = issuer.certificate_pem
        if found is None or not self._is_good(found.certificate, found.key, profile, issuer):
            pair = certificates.issue(profile, issuer, self.now, certificates.generate_key())
            wanted = kubeconfig.Kubeconfig(server, ca, pair.certificate_pem, pair.key_pem, profile.common_name)
        else:
            wanted = kubeconfig.Kubeconfig(server, ca, found.certificate, found.key, profile.common_name)
        if wanted != found:
            files.write(path, kubeconfig.render(wanted), files.SECRET)
            self.renewed.append(path.name)
        files.restrict(path, files.SECRET)

    def ensure_signing_key(self) -> None:
        """sa.key signs service account tokens; replacing it ends them all, so only a missing or broken one is."""
        private, public = self.pki.directory / "sa.key", self.pki.directory / "sa.pub"
        try:
            key = certificates.parse_key(files.read(private) or b"")
        except ValueError:
            key = certificates.generate_key()
            files.write(private, certificates.render_key(key), files.SECRET)
            self.renewed.append(private.name)
        wanted = certificates.render_public_key(key)
        if files.read(public) != wanted:
            files.write(public, wanted, files.PUBLIC)
        files.restrict(private, files.SECRET)

    def ensure_encryption_key(self) -> None:
        """encryption.yaml is the administrator's once it is there: without its keys, what is stored is lost."""
        path = self.pki.encryption
        if files.read(path) is None:
            files.write(path, encryption.render(secrets.token_bytes(encryption.KEY_BYTES)), files.SECRET)
            self.renewed.append(path.name)
        files.restrict(path, files.SECRET)

    def _is_good(self, certificate: bytes | None, key: bytes | None, profile: Profile, issuer: KeyPair) -> bool:
        try:
            pair = certificates.parse_pair(certificate or b"", key or b"")
        except ValueError:
            return False
        return not certificates.flaw(pair.certificate, profile, issuer.certificate, self.now)


def _unique(items: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))
