"""The plugins that do what users configure, in the order in which they are asked. Called by apiserver/server.

The last of the chain but for the quota: functions, policies, webhooks. Those that judge see what all of them made.
"""

from __future__ import annotations

import random

from kybern.apiserver.admission import Plugin, policies
from kybern.apiserver.admission.python_policies import Policies, PythonPolicies
from kybern.apiserver.admission.webhooks import plugin as webhooks
from kybern.apiserver.admission.webhooks.counts import Counts
from kybern.apiserver.admission.webhooks.versions import Versions
from kybern.apiserver.authorize.chain import Authorizers
from kybern.apiserver.registry.registry import Registry
from kybern.apiserver.webhooks.client import WebhookClient
from kybern.machinery import metrics


def plugins(
    registry: Registry,
    client: WebhookClient,
    authorizers: Authorizers,
    rng: random.Random,
    functions: Policies | None,
    counted: metrics.Registry,
) -> list[Plugin]:
    """`functions`: those of --admission-policy-dir, if there is one."""
    versions = Versions(registry)
    found: list[Plugin] = []
    if functions is not None:
        found.append(PythonPolicies(functions, versions, registry.objects))
    found += policies.plugins(registry, authorizers, counted)
    dice = random.Random(rng.getrandbits(64))
    tools = webhooks.Tools(registry.objects, versions, client, authorizers, dice, Counts(counted))
    return [*found, webhooks.MutatingWebhooks(tools), webhooks.ValidatingWebhooks(tools)]
