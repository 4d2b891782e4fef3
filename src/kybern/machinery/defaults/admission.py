"""Defaults of admissionregistration.k8s.io, in every version."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kybern.api import admissionregistration_v1 as v1
from kybern.api import admissionregistration_v1alpha1 as v1alpha1
from kybern.api import admissionregistration_v1beta1 as v1beta1
from kybern.api.meta_v1 import LabelSelector


def _fill_webhooks(configuration: v1.ValidatingWebhookConfiguration | v1.MutatingWebhookConfiguration) -> None:
    for webhook in configuration.webhooks:
        if webhook.failurePolicy is None:
            webhook.failurePolicy = "Fail"
        if webhook.timeoutSeconds is None:
            webhook.timeoutSeconds = 10
        if isinstance(webhook, v1.MutatingWebhook) and webhook.reinvocationPolicy is None:
            webhook.reinvocationPolicy = "Never"
        service = webhook.clientConfig.service
        if service is not None and service.port is None:
            service.port = 443
        _fill_match(webhook)
        for rule in webhook.rules:
            if rule.scope is None:
                rule.scope = "*"


def _fill_match(holder: Any) -> None:
    """What webhooks and MatchResources (of any version) share."""
    if holder.matchPolicy is None:
        holder.matchPolicy = "Equivalent"
    if holder.namespaceSelector is None:
        holder.namespaceSelector = LabelSelector()
    if holder.objectSelector is None:
        holder.objectSelector = LabelSelector()


def _fill_match_resources(match: Any) -> None:
    if match is None:
        return
    _fill_match(match)
    for rule in (*match.resourceRules, *match.excludeResourceRules):
        if rule.scope is None:
            rule.scope = "*"


def _fill_policy(policy: Any) -> None:
    if policy.spec.failurePolicy is None:
        policy.spec.failurePolicy = "Fail"
    _fill_match_resources(policy.spec.matchConstraints)


def _fill_policy_binding(binding: Any) -> None:
    _fill_match_resources(binding.spec.matchResources)


DEFAULTS: dict[type[Any], Callable[[Any], None]] = {
    v1.ValidatingWebhookConfiguration: _fill_webhooks,
    v1.MutatingWebhookConfiguration: _fill_webhooks,
    v1.ValidatingAdmissionPolicy: _fill_policy,
    v1.ValidatingAdmissionPolicyBinding: _fill_policy_binding,
    **{module.MutatingAdmissionPolicy: _fill_policy for module in (v1, v1beta1, v1alpha1)},
    **{module.MutatingAdmissionPolicyBinding: _fill_policy_binding for module in (v1, v1beta1, v1alpha1)},
}
