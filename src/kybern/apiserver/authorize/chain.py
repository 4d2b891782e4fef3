"""Decide whether a user may do something: the ordered authorizers.

Called by the pipeline for each request, by reviews, by impersonation and by escalation checks. Synchronous, and
cheap enough to be asked on every request; a webhook that must be asked first is told by `Pending`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kybern.apiserver.authorize import attributes as attributes_module
from kybern.apiserver.authorize import configuration
from kybern.apiserver.authorize.attributes import MASTERS, Attributes, Decision
from kybern.apiserver.authorize.configuration import Entry
from kybern.apiserver.authorize.node import NodeAuthorizer
from kybern.apiserver.authorize.rbac import Rbac
from kybern.apiserver.authorize.webhook import WebhookAuthorizer
from kybern.apiserver.request import Reader, User
from kybern.apiserver.webhooks.client import WebhookClient
from kybern.machinery.clock import Clock

_MASTERS_DECISION = Decision(True, "", "masters")


class Authorizer(Protocol):
    """One of the chain: allows, denies (`denied`), has no opinion (with a reason), or nothing to say (None)."""

    def authorize(self, user: User, attributes: Attributes) -> Decision | None: ...


class _Always:
    def __init__(self, decision: Decision) -> None:
        self._decision = decision

    def authorize(self, user: User, attributes: Attributes) -> Decision | None:
        return self._decision


class Authorizers:
    """system:masters, then those configured (Node, RBAC): the first that allows or denies decides."""

    def __init__(self, reader: Reader) -> None:
        self.rbac = Rbac(reader)
        self.node = NodeAuthorizer(reader)
        self._chain: tuple[Authorizer, ...] | None = None  # None: Node, RBAC
        # Whether one of them looks at selectors of labels: otherwise they need not be read.
        self.reads_labels = False
        self.webhooks: tuple[WebhookAuthorizer, ...] = ()

    def configure(self, entries: Sequence[Entry], webhooks: WebhookClient, clock: Clock) -> None:
        """Take other authorizers, now. Webhooks that stay the same keep their answers."""
        if tuple(entries) == configuration.DEFAULT:
            self._chain, self.webhooks, self.reads_labels = None, (), False
            return
        known = {w.options: w for w in self.webhooks}
        chain: list[Authorizer] = []
        asked: list[WebhookAuthorizer] = []
        for entry in entries:
            match entry.type:
                case "Node":
                    chain.append(self.node)
                case "RBAC":
                    chain.append(self.rbac)
                case "AlwaysAllow":
                    chain.append(_Always(Decision(True, "", entry.name)))
                case "AlwaysDeny":
                    chain.append(_Always(Decision(False, "Everything is forbidden.", entry.name)))
                case _:
                    assert entry.webhook is not None
                    webhook = known.get(entry.webhook) or WebhookAuthorizer(entry.webhook, webhooks, clock)
                    chain.append(webhook)
                    asked.append(webhook)
        self._chain, self.webhooks, self.reads_labels = tuple(chain), tuple(asked), bool(asked)

    def authorize(self, user: User, attributes: Attributes) -> Decision:
        """Raises Pending while a webhook has not been asked."""
        if MASTERS in user.groups:
            return _MASTERS_DECISION
        if self._chain is not None:
            return self._ask_all(self._chain, user, attributes)
        node = self.node.authorize(user, attributes)
        if node is not None and node.allowed:
            return node
        decision = self.rbac.authorize(user, attributes)
        if decision.allowed or node is None:
            return decision
        return Decision(False, "; ".join(r for r in (node.reason, decision.reason) if r))

    def _ask_all(self, chain: tuple[Authorizer, ...], user: User, attributes: Attributes) -> Decision:
        reasons = []
        for authorizer in chain:
            decision = authorizer.authorize(user, attributes)
            if decision is None:
                continue
            if decision.allowed or decision.denied:
                return decision
            reasons.append(decision.reason)
        return Decision(False, "; ".join(filter(None, reasons)))

    def require(self, user: User, attributes: Attributes) -> Decision:
        """The decision for; raises the 403 for one against."""
        decision = self.authorize(user, attributes)
        if not decision.allowed:
            raise attributes_module.forbidden(user, attributes, decision.reason)
        return decision
