"""TLS contexts: for servers with optional client certificates, and for clients of kubelets.

Used by process/apiserver, process/kubelet and apiserver/proxy. A context is changed in place when its files are
renewed: connections made afterwards get the new certificate, and nothing restarts.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from kybern.machinery.clock import Clock

# Forward secrecy and authenticated encryption only; TLS 1.3 suites are not affected by this list.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """PEM files of a certificate chain and its key."""

    certificate: Path
    key: Path


def server_context(pair: KeyPair, client_authorities: tuple[Path, ...] = ()) -> ssl.SSLContext:
    """TLS 1.2 or later, HTTP/1.1 only. With `client_authorities`, a client may show a certificate of one of them.

    Which of them signed it is for the authenticator to check. A certificate of no such authority fails the handshake.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    # A resumed session would carry a client certificate past its end.
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(pair.certificate, pair.key)
    if client_authorities:
        for authority in client_authorities:
            context.load_verify_locations(authority)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def client_context(authority: Path | None, pair: KeyPair | None) -> ssl.SSLContext:
    """For calling a server whose certificate `authority` signed, showing `pair`.

    Without an authority the server's certificate is not verified: kube-apiserver's default towards kubelets
    (`--kubelet-certificate-authority` unset) and towards pods and services.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if authority is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(authority)
    if pair is not None:
        context.load_cert_chain(pair.certificate, pair.key)
    return context


class Renewal:
    """Keeps a context's certificate as its files are."""

    def __init__(self, context: ssl.SSLContext, pair: KeyPair) -> None:
        self._context = context
        self._pair = pair
        self._seen = self._stamp()

    def _stamp(self) -> tuple[int, ...]:
        stats = [path.stat() for path in (self._pair.certificate, self._pair.key)]
        return tuple(n for s in stats for n in (s.st_mtime_ns, s.st_size, s.st_ino))

    def reload_if_changed(self) -> bool:
        """Load the files again if they changed. Raises OSError or ssl.SSLError when they are not usable (yet)."""
        stamp = self._stamp()
        if stamp == self._seen:
            return False
        self._context.load_cert_chain(self._pair.certificate, self._pair.key)
        self._seen = stamp
        return True

    async def run(self, clock: Clock, period: float = 10.0) -> None:
        """Look every `period` seconds. Files found halfway through a change are looked at again next time."""
        while True:
            await clock.sleep(period)
            try:
                self.reload_if_changed()
            except (OSError, ssl.SSLError):
                continue
