"""ValidatingAdmissionPolicy and MutatingAdmissionPolicy with their bindings: rules for writes that users write as CEL.

    definitions.py    policies and bindings from the watch cache, compiled
    params.py         the objects that a binding parameterises its policy with
    evaluation.py     one policy over one write: conditions, variables, validations, messages, annotations
    apply.py          what a mutation's expression gives -> the changed object
    validating.py     the plugin that refuses, warns and annotates
    mutating.py       the plugin that changes
    type_checking.py  what a policy's expressions would say of the kinds it names; the status of a policy

Where no policy exists a write costs one look-up a plugin. Source: "Validating Admission Policy" and "Mutating Admission
Policy" in the Kubernetes documentation; the messages are those of a kube-apiserver.
"""

from __future__ import annotations

from kybern.apiserver.admission import Plugin
from kybern.apiserver.admission.policies.counts import Counts
from kybern.apiserver.admission.policies.mutating import MutatingPolicies
from kybern.apiserver.admission.policies.validating import ValidatingPolicies, tools_of
from kybern.apiserver.authorize.chain import Authorizers
from kybern.apiserver.registry.registry import Registry
from kybern.machinery import metrics


def plugins(registry: Registry, authorizers: Authorizers, counted: metrics.Registry) -> list[Plugin]:
    """Both of them. They come before the webhooks."""
    tools = tools_of(registry, authorizers)
    return [MutatingPolicies(tools, registry), ValidatingPolicies(tools, Counts(counted))]
