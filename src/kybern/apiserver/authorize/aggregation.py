"""Cluster roles that are unions of others: what their rules should be. Pure.

For the clusterrole-aggregation controller and for the API server's own start.
Source: "Aggregated ClusterRoles" in the RBAC documentation.
"""

from __future__ import annotations

from collections.abc import Iterable

from kybern.api import codec
from kybern.api.rbac_v1 import ClusterRole, PolicyRule
from kybern.machinery import labels


def plan_aggregation(cluster_roles: Iterable[ClusterRole]) -> list[ClusterRole]:
    """Copies, with their new rules, of the aggregated roles whose rules are not the union of what they select.

    Unions of unions need as many rounds as they are deep: call again after writing.
    """
    by_name = sorted(cluster_roles, key=lambda r: r.metadata.name)
    changed = []
    for role in by_name:
        if role.aggregationRule is None:
            continue
        wanted = _union(role, by_name)
        if wanted != role.rules:
            copy = codec.clone(role)
            copy.rules = wanted
            changed.append(copy)
    return changed


def _union(role: ClusterRole, all_roles: list[ClusterRole]) -> list[PolicyRule]:
    assert role.aggregationRule is not None
    found: list[PolicyRule] = []
    for selector in role.aggregationRule.clusterRoleSelectors:
        try:
            matcher = labels.from_label_selector(selector)
        except ValueError:
            continue  # validation refuses such a selector; an old one selects nothing
        for other in all_roles:
            if other.metadata.name != role.metadata.name and matcher.matches(other.metadata.labels):
                found += [r for r in other.rules if r not in found]
    return found
