"""Follow a configuration file: a change takes effect without a restart.

Run by process/apiserver beside the server, for encryption, authentication and authorization. A file that cannot be
read or understood changes nothing and is told in the log; what is in use stays.
Source: "automatic reloading" of these files in the Kubernetes documentation.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import structlog

from kybern.machinery.clock import Clock

log = structlog.get_logger(__name__)

SECONDS = 60.0  # kube-apiserver looks as often


class Reload:
    """Looks at a file and hands on its text when it has changed."""

    def __init__(self, what: str, path: Path, text: bytes, take: Callable[[bytes], None], clock: Clock) -> None:
        """`what` is configured: encryption, authentication or authorization. `text` is in use; `take` puts another one
        into use, or raises ValueError or OSError."""
        self.what = what
        self.results = {"success": 0, "failure": 0}
        self._path = path
        self._text = text
        self._take = take
        self._clock = clock

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._clock.sleep(SECONDS)
            self.look()

    def look(self) -> bool:
        """Read the file; whether it was taken."""
        try:
            text = self._path.read_bytes()
            if text == self._text:
                return False
            self._text = text
            self._take(text)
        except (OSError, ValueError) as error:
            self.results["failure"] += 1
            log.error("a configuration file was not taken: the old one stays", path=str(self._path), error=str(error))
            return False
        self.results["success"] += 1
        log.info("a configuration file was loaded anew", path=str(self._path))
        return True
