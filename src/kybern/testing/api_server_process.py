"""API servers as processes of their own, over an etcd: for tests that kill them, or cut them off.

Beside testing/api_server (in this process) and testing/live_server (this process, a real socket).
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import requests

from kybern import pki
from kybern.client.clock import RealClock
from kybern.testing import etcd

TOKEN = "test-token"  # of an administrator


class ApiServerProcess:
    """`kybern apiserver`; `start` it. All that share a folder have the same keys."""

    def __init__(
        self,
        folder: Path,
        port: int,
        members: Sequence[etcd.Member],
        certificates: etcd.Certificates,
        *,
        name: str = "",
        address: str = "127.0.0.1",
        others: Sequence[str] = (),
        before: Sequence[str] = (),
        flags: Sequence[str] = (),
    ) -> None:
        """Listens at `address` (the certificate is for `others` too); its command begins with `before`."""
        self.name = name or f"apiserver-{port}"
        self.url = f"https://{address}:{port}"
        self.pki = pki.ensure(folder, names=["test"], addresses=others or [address], clock=RealClock())
        tokens = folder / "tokens.csv"
        tokens.write_text(f"{TOKEN},test,1,system:masters\n")
        self._command = [
            *(*before, sys.executable, "-m", "kybern.cli.main", "apiserver", "--secure-port", str(port)),
            *("--bind-address", address, "--advertise-address", "192.0.2.1"),
            *("--etcd-servers", ",".join(m.url for m in members), "--etcd-cafile", str(certificates.ca)),
            *("--etcd-certfile", str(certificates.certificate), "--etcd-keyfile", str(certificates.key)),
            *("--token-auth-file", str(tokens), "--client-ca-file", str(self.pki.ca)),
            *("--tls-cert-file", str(self.pki.certificate("apiserver"))),
            *("--tls-private-key-file", str(self.pki.key("apiserver"))),
            *("--service-account-key-file", str(self.pki.directory / "sa.pub")),
            *("--service-account-signing-key-file", str(self.pki.directory / "sa.key"), *flags),
        ]
        self.log = folder / f"{self.name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def wait(self, seconds: float = 30.0, *, supervised: bool = False) -> None:
        """Until it is ready. Raises AssertionError with the end of its log.

        `supervised`: where it ends, as it does when no member of etcd answers, it is started again.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process is not None
            if self.process.poll() is not None:
                assert supervised, self.log.read_text()[-3000:]
                self.start()
            with contextlib.suppress(requests.RequestException):
                if self.call("GET", "/readyz").status_code == 200:
                    return
            time.sleep(0.1)
        raise AssertionError(self.log.read_text()[-3000:])

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def call(
        self, method: str, path: str, body: Any = None, timeout: float = 20, content_type: str = "json"
    ) -> requests.Response:
        """As an administrator. Raises requests.RequestException."""
        return requests.request(
            method,
            self.url + path,
            json=body,
            headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": f"application/{content_type}"},
            verify=str(self.pki.ca),
            timeout=timeout,
        )
