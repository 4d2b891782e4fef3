"""Dial targets: kubelets with the API server's client certificate, pods and services without.

Used by forward and pods. Certificates are read again when their files change.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from kybern.apiserver.proxy.targets import Target
from kybern.machinery.status import ApiError
from kybern.wire import tcp, tls
from kybern.wire.message import RawStream


@dataclass(frozen=True, slots=True)
class DialerOptions:
    """Flags of kube-apiserver: --kubelet-client-certificate, --kubelet-client-key, --kubelet-certificate-authority.

    Empty: no certificate is shown; the kubelet's is not verified.
    """

    client_certificate: str = ""
    client_key: str = ""
    authority: str = ""
    timeout: float = 30.0


class KubeletDialer:
    """Opens connections; keeps none."""

    def __init__(self, options: DialerOptions) -> None:
        self._options = options
        self._kubelet: tuple[ssl.SSLContext, tls.Renewal | None] | None = None
        self._blind: ssl.SSLContext | None = None

    def _kubelet_context(self) -> ssl.SSLContext:
        if self._kubelet is None:
            options = self._options
            pair = None
            if options.client_certificate:
                pair = tls.KeyPair(Path(options.client_certificate), Path(options.client_key))
            context = tls.client_context(Path(options.authority) if options.authority else None, pair)
            self._kubelet = (context, tls.Renewal(context, pair) if pair else None)
        context, renewal = self._kubelet
        if renewal is not None:
            renewal.reload_if_changed()
        return context

    def _context(self, target: Target) -> ssl.SSLContext | None:
        if target.is_kubelet:
            return self._kubelet_context()
        if target.scheme != "https":
            return None
        if self._blind is None:
            # kube-apiserver: pods and services behind `https:` are not verified; nobody vouches for their names.
            self._blind = tls.client_context(None, None)
        return self._blind

    async def dial(self, target: Target) -> RawStream:
        """Raises ApiError (503) when the target cannot be reached."""
        try:
            return await tcp.dial(
                target.host, target.port, context=self._context(target), timeout=self._options.timeout
            )
        except TimeoutError:
            raise ApiError.unavailable(
                f"error trying to reach service: dial tcp {target.authority}: i/o timeout"
            ) from None
        except OSError as fault:
            why = (fault.strerror or str(fault)).lower()
            step = "" if isinstance(fault, socket.gaierror) else "connect: "
            raise ApiError.unavailable(
                f"error trying to reach service: dial tcp {target.authority}: {step}{why}"
            ) from None
