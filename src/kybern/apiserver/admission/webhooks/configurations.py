"""Mutating- and ValidatingWebhookConfigurations as a list of hooks in the order in which they are asked.

Read by plugin. Follows the watch cache: what was written is in force for the next write; while nothing changes and
nothing is configured it costs two look-ups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kybern.apiserver.admission.match_conditions import MatchConditions
from kybern.apiserver.admission.matching import Matcher
from kybern.apiserver.request import Reader

MUTATING = "mutatingwebhookconfigurations.admissionregistration.k8s.io"
VALIDATING = "validatingwebhookconfigurations.admissionregistration.k8s.io"

_REVIEWS = ("v1", "v1beta1")
_TIMEOUT = 10  # kube-apiserver: the default of timeoutSeconds


@dataclass(frozen=True, slots=True, eq=False)
class Hook:
    """One webhook of one configuration."""

    configuration: str
    name: str
    matcher: Matcher
    client: Any  # WebhookClientConfig
    timeout: int  # seconds
    fails_open: bool
    review: str  # "v1", "v1beta1", or "" if it takes none that is known here
    has_side_effects: bool
    reinvokes: bool
    conditions: MatchConditions


class Configurations:
    """All hooks of one kind of configuration."""

    def __init__(self, reader: Reader, resource: str) -> None:
        self._reader = reader
        self._resource = resource
        self._version = -1
        self._hooks: tuple[Hook, ...] = ()

    @property
    def hooks(self) -> tuple[Hook, ...]:
        """By name of configuration, then in the order written there. The same tuple as long as nothing changes."""
        version = self._reader.version(self._resource)
        if version != self._version:
            found = sorted(self._reader.list(self._resource), key=lambda c: c.metadata.name)
            self._hooks = tuple(_hook(c.metadata.name, w) for c in found for w in c.webhooks)
            self._version = version
        return self._hooks


def _hook(configuration: str, webhook: Any) -> Hook:
    return Hook(
        configuration=configuration,
        name=webhook.name,
        matcher=Matcher(webhook.rules, webhook.matchPolicy, webhook.namespaceSelector, webhook.objectSelector),
        client=webhook.clientConfig,
        timeout=webhook.timeoutSeconds or _TIMEOUT,
        fails_open=webhook.failurePolicy == "Ignore",
        review=next((v for v in webhook.admissionReviewVersions if v in _REVIEWS), ""),
        has_side_effects=webhook.sideEffects not in ("None", "NoneOnDryRun"),
        reinvokes=getattr(webhook, "reinvocationPolicy", None) == "IfNeeded",
        conditions=MatchConditions(webhook.matchConditions),
    )
