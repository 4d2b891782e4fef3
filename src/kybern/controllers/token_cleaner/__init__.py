"""Legacy token secrets that were made automatically and are used no more: marked invalid, then deleted.

Such secrets can come only from stores that older versions wrote. The API server writes the day of their last use into
a label; a secret unused for a whole period is labelled invalid first, and deleted a period later.
"""

from __future__ import annotations

import datetime
from enum import Enum

from kybern.api.core_v1 import ConfigMap, Pod, Secret, ServiceAccount
from kybern.controllers import runtime
from kybern.controllers.serviceaccount_token import plan as tokens
from kybern.machinery.status import ApiError

NAME = "legacy-serviceaccount-token-cleaner-controller"
LAST_USED = "kubernetes.io/legacy-token-last-used"
INVALID_SINCE = "kubernetes.io/legacy-token-invalid-since"
TRACKER = "kube-apiserver-legacy-service-account-token-tracking"
PERIOD = 24 * 3600.0


class Fate(Enum):
    KEEP = "keep"
    MARK = "mark"
    DELETE = "delete"


def _day(text: str | None) -> datetime.date | None:
    try:
        return datetime.date.fromisoformat(text or "")
    except ValueError:
        return None


def judge(secret: Secret, tracked_since: datetime.date, today: datetime.date, period: datetime.timedelta) -> Fate:
    """What becomes of an automatically made secret that no pod mounts."""
    invalid = _day(secret.metadata.labels.get(INVALID_SINCE))
    used = _day(secret.metadata.labels.get(LAST_USED))
    quiet_since = max(tracked_since, used) if used is not None else tracked_since
    if invalid is not None and (used is None or used <= invalid):
        return Fate.DELETE if today - invalid >= period else Fate.KEEP
    return Fate.MARK if today - quiet_since >= period else Fate.KEEP


class TokenCleaner(runtime.Looped):
    """runtime.Controller with one key, once a day."""

    def __init__(self, context: runtime.Context) -> None:
        self._context = context
        self._secrets = context.informers.of(Secret, field_selector=f"type={tokens.TYPE}")
        self._accounts = context.informers.of(ServiceAccount)
        self._pods = context.informers.of(Pod)
        self.loop = runtime.Loop(NAME, self.reconcile, context.clock, workers=1)
        super().__init__(NAME, self.loop)
        self.loop.queue.add("all")

    async def reconcile(self, key: str) -> runtime.RequeueAfter | None:
        again = runtime.RequeueAfter(PERIOD)
        since = await self._tracked_since()
        if since is None:
            return again
        today = self._context.clock.now().date()
        period = datetime.timedelta(seconds=self._context.settings.legacy_service_account_token_clean_up_period)
        mounted = self._mounted()
        for secret in self._secrets.list():
            if not self._is_automatic(secret) or (secret.metadata.namespace, secret.metadata.name) in mounted:
                continue
            await self._apply(secret, judge(secret, since, today, period), today)
        return again

    async def _tracked_since(self) -> datetime.date | None:
        try:
            tracker = await self._context.client.get(ConfigMap, "kube-system", TRACKER)
        except ApiError as error:
            if error.is_not_found:
                return None
            raise
        return _day(tracker.data.get("since"))

    def _is_automatic(self, secret: Secret) -> bool:
        """Its account lists it: nobody wrote it by hand."""
        account = self._accounts.get(secret.metadata.namespace, tokens.account_of(secret))
        return account is not None and any(s.name == secret.metadata.name for s in account.secrets)

    def _mounted(self) -> set[tuple[str, str]]:
        return {
            (pod.metadata.namespace, volume.secret.secretName or "")
            for pod in self._pods.list()
            for volume in pod.spec.volumes
            if volume.secret is not None
        }

    async def _apply(self, secret: Secret, fate: Fate, today: datetime.date) -> None:
        meta = secret.metadata
        try:
            if fate is Fate.MARK:
                patch = {"metadata": {"resourceVersion": meta.resourceVersion, "labels": {INVALID_SINCE: str(today)}}}
                marked = await self._context.client.patch(Secret, meta.namespace, meta.name, patch)
                self._secrets.observe(marked)
            elif fate is Fate.DELETE:
                await self._context.client.delete(
                    Secret, meta.namespace, meta.name, uid=meta.uid, resource_version=meta.resourceVersion
                )
        except ApiError as error:
            if not (error.is_not_found or error.is_conflict):
                raise


def build(context: runtime.Context) -> TokenCleaner:
    return TokenCleaner(context)
