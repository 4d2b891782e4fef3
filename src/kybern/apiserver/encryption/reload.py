"""Follow the file of --encryption-provider-config: a change takes effect without a restart.

Run by process/apiserver beside the server. A file that cannot be read or understood changes nothing and is told in
the log; the rules in use stay. Source: "Configure automatic reloading" in the documentation.
"""

from __future__ import annotations

from pathlib import Path

import structlog

from kybern.apiserver.encryption import configuration
from kybern.apiserver.encryption.store import EncryptedStore
from kybern.machinery.clock import Clock

log = structlog.get_logger(__name__)

SECONDS = 60.0  # kube-apiserver looks as often


class Reload:
    """Looks at the file and gives the store its rules."""

    def __init__(self, path: Path, text: bytes, store: EncryptedStore, clock: Clock) -> None:
        self._path = path
        self._text = text  # as it was when last looked at
        self._store = store
        self._clock = clock

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._clock.sleep(SECONDS)
            self.look()

    def look(self) -> bool:
        """Read the file; whether its rules were taken."""
        try:
            text = self._path.read_bytes()
        except OSError as error:
            log.error("the encryption configuration cannot be read: the old one stays", error=str(error))
            return False
        if text == self._text:
            return False
        self._text = text
        try:
            rules = configuration.parse(text)
        except ValueError as error:
            log.error("the encryption configuration is wrong: the old one stays", error=str(error))
            return False
        self._store.rules = rules
        log.info("the encryption configuration was loaded anew", path=str(self._path))
        return True
