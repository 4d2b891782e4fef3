"""The day on which a legacy token was last used, as a label of its Secret: what is used no more can be cleaned up.

Told by service_accounts on requests, written by the server's upkeep; read by the legacy token cleaner controller, which
also needs to know since when this is done (a ConfigMap in kube-system).
Source: "Legacy service account token cleaner" in the Kubernetes documentation.
"""

from __future__ import annotations

from typing import Protocol

from kybern.api import codec
from kybern.api.core_v1 import ConfigMap, Secret
from kybern.api.meta_v1 import ObjectMeta
from kybern.apiserver.request import Reader, Writer
from kybern.machinery.clock import Clock
from kybern.machinery.status import ApiError

LAST_USED = "kubernetes.io/legacy-token-last-used"
TRACKER = ("kube-system", "kube-apiserver-legacy-service-account-token-tracking")
SECONDS = 10.0  # between two rounds of writing
_MOST = 4096  # secrets that wait for it


class Objects(Reader, Writer, Protocol):
    """The server's own window on its objects."""


class LegacyUse:
    """Remembers until the next round which secrets were used."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._used: set[tuple[str, str]] = set()

    @property
    def today(self) -> str:
        return self._clock.now().date().isoformat()

    def note(self, secret: Secret) -> None:
        """Its token has just been used."""
        if secret.metadata.labels.get(LAST_USED) != self.today and len(self._used) < _MOST:
            self._used.add((secret.metadata.namespace, secret.metadata.name))

    async def write(self, objects: Objects) -> None:
        """Label what was used; since when we do this is written once. Raises ApiError for the store's faults."""
        if objects.get("configmaps", *TRACKER) is None:
            meta = ObjectMeta(name=TRACKER[1], namespace=TRACKER[0])
            try:
                await objects.create("configmaps", ConfigMap(metadata=meta, data={"since": self.today}))
            except ApiError as error:
                if not error.is_already_exists:
                    raise
        while self._used:
            namespace, name = self._used.pop()
            secret: Secret | None = objects.get("secrets", namespace, name)
            if secret is None or secret.metadata.labels.get(LAST_USED) == self.today:
                continue
            fresh = codec.clone(secret)
            fresh.metadata.labels = {**fresh.metadata.labels, LAST_USED: self.today}
            try:
                await objects.update("secrets", fresh)
            except ApiError as error:
                if not (error.is_conflict or error.is_not_found):
                    raise  # a conflict is seen again when the token is used again
