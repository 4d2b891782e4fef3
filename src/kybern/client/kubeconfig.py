"""Turn a kubeconfig file into what a connection needs: where to, whom to trust, who we are.

Read by rest.RestClient. Paths in the file are relative to the file; inline data wins over paths, as in kubectl.
Certificates and tokens kept in files are looked at again when they change, so renewal needs no restart.
"""

from __future__ import annotations

import base64
import binascii
import os
import pathlib
import ssl
import tempfile
from dataclasses import dataclass
from typing import Any

import yaml

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
SERVICE_ACCOUNT = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class Pem:
    """A PEM text that is either inline or in a file."""

    data: bytes = b""
    file: str = ""

    def __bool__(self) -> bool:
        return bool(self.data or self.file)

    def read(self) -> bytes:
        return self.data or pathlib.Path(self.file).read_bytes()

    def stamp(self) -> int:
        """Changes when the file does."""
        return 0 if self.data or not self.file else os.stat(self.file).st_mtime_ns


@dataclass(frozen=True, slots=True)
class Access:
    """One cluster and one user of it. Raises nothing until used; file errors surface as OSError."""

    server: str
    ca: Pem = Pem()  # empty: the roots of the system
    insecure: bool = False
    tls_server_name: str = ""
    certificate: Pem = Pem()
    key: Pem = Pem()
    token: str = ""
    token_file: str = ""
    namespace: str = "default"

    def stamp(self) -> tuple[int, ...]:
        """Changes when any certificate file does."""
        return self.ca.stamp(), self.certificate.stamp(), self.key.stamp()

    def ssl_context(self) -> ssl.SSLContext:
        """A client context, TLS 1.2 or later, offering HTTP/1.1."""
        context = ssl.create_default_context(cadata=self.ca.read().decode() if self.ca else None)
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["http/1.1"])
        if self.certificate:
            # OpenSSL's chain loader takes files only: inline data passes through one that nobody else may read.
            with tempfile.NamedTemporaryFile() as chain:
                chain.write(self.certificate.read().rstrip() + b"\n" + self.key.read())
                chain.flush()
                context.load_cert_chain(chain.name)
        return context


def load(path: str | os.PathLike[str], context: str = "") -> Access:
    """The access of `context` (or the current one). Raises ValueError, naming what is wrong, or OSError."""
    file = pathlib.Path(path)
    try:
        document = yaml.load(file.read_bytes(), Loader=_LOADER)
    except yaml.YAMLError as error:
        raise ValueError(f"reading kubeconfig {file}: {error}") from None
    if not isinstance(document, dict):
        raise ValueError(f"reading kubeconfig {file}: a mapping is expected")
    return parse(document, file.parent, context, str(file))


def parse(document: dict[str, Any], folder: pathlib.Path, context: str = "", shown: str = "kubeconfig") -> Access:
    """`load` for a document that is decoded already; relative paths start at `folder`."""
    name = context or document.get("current-context") or ""
    chosen = _named(document, "contexts", "context", name, shown)
    cluster = _named(document, "clusters", "cluster", chosen.get("cluster", ""), shown)
    user = _named(document, "users", "user", chosen["user"], shown) if chosen.get("user") else {}
    if not cluster.get("server"):
        raise ValueError(f"{shown}: cluster {chosen.get('cluster')!r} has no server")
    for unsupported in ("exec", "auth-provider"):
        if user.get(unsupported):
            raise ValueError(f"{shown}: user {chosen['user']!r} uses {unsupported!r}, which is not supported")
    return Access(
        server=str(cluster["server"]).rstrip("/"),
        ca=_pem(cluster, "certificate-authority", folder, shown),
        insecure=bool(cluster.get("insecure-skip-tls-verify", False)),
        tls_server_name=cluster.get("tls-server-name") or "",
        certificate=_pem(user, "client-certificate", folder, shown),
        key=_pem(user, "client-key", folder, shown),
        token=user.get("token") or "",
        token_file=str(folder / user["tokenFile"]) if user.get("tokenFile") else "",
        namespace=chosen.get("namespace") or "default",
    )


def in_cluster(folder: pathlib.Path = SERVICE_ACCOUNT, environ: dict[str, str] | None = None) -> Access:
    """The access of a pod's own service account. Raises ValueError outside of a pod."""
    environ = dict(os.environ) if environ is None else environ
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "")
    if not host or not port:
        raise ValueError("not in a cluster: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set")
    shown = f"[{host}]" if ":" in host else host
    return Access(
        server=f"https://{shown}:{port}", ca=Pem(file=str(folder / "ca.crt")), token_file=str(folder / "token")
    )


def _named(document: dict[str, Any], section: str, field: str, name: str, shown: str) -> dict[str, Any]:
    for entry in document.get(section) or []:
        if isinstance(entry, dict) and entry.get("name") == name:
            found = entry.get(field) or {}
            if not isinstance(found, dict):
                raise ValueError(f"{shown}: {field} {name!r} is not a mapping")
            return found
    raise ValueError(f"{shown}: no {field} named {name!r}")


def _pem(source: dict[str, Any], field: str, folder: pathlib.Path, shown: str) -> Pem:
    inline = source.get(f"{field}-data")
    if inline:
        try:
            return Pem(data=base64.b64decode(inline, validate=True))
        except (binascii.Error, TypeError) as error:
            raise ValueError(f"{shown}: {field}-data is not base64: {error}") from None
    return Pem(file=str(folder / source[field])) if source.get(field) else Pem()
