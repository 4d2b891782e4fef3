"""Rules of RBAC: what one allows, and whether some cover others. Pure.

Read by rbac (decisions), escalation (nobody grants what he lacks) and reviews (lists of rules).
Source: "Using RBAC Authorization" in the Kubernetes documentation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kybern.api.rbac_v1 import PolicyRule
from kybern.apiserver.authorize.attributes import Attributes

ALL = "*"


def allows(rule: PolicyRule, a: Attributes) -> bool:
    """Whether the rule alone allows it."""
    if not _has(rule.verbs, a.verb):
        return False
    if not a.is_resource:
        return any(path_matches(p, a.path) for p in rule.nonResourceURLs)
    return (
        _has(rule.apiGroups, a.group)
        and resource_matches(rule.resources, a.resource, a.subresource)
        and (not rule.resourceNames or a.name in rule.resourceNames)
    )


def resource_matches(resources: Sequence[str], resource: str, subresource: str) -> bool:
    """`*`, `pods`, `pods/status` and `*/status` as rules write them."""
    full = f"{resource}/{subresource}" if subresource else resource
    if ALL in resources or full in resources:
        return True
    return bool(subresource) and f"*/{subresource}" in resources


def path_matches(pattern: str, path: str) -> bool:
    """`*`, `/healthz` and `/healthz/*`."""
    if pattern in (ALL, path):
        return True
    return pattern.endswith("*") and path.startswith(pattern.rstrip("*"))


def plan_uncovered(owned: Iterable[PolicyRule], wanted: Iterable[PolicyRule]) -> list[PolicyRule]:
    """Those parts of `wanted` (one verb, group, resource and name each) that no rule of `owned` covers."""
    held = list(owned)
    return [part for rule in wanted for part in split(rule) if not any(covers(o, part) for o in held)]


def split(rule: PolicyRule) -> list[PolicyRule]:
    """The rule as rules with one verb, group, resource and name, or one verb and path."""
    parts = [
        PolicyRule(apiGroups=[group], resources=[resource], verbs=[verb], resourceNames=[name] if name else [])
        for group in rule.apiGroups
        for resource in rule.resources
        for verb in rule.verbs
        for name in rule.resourceNames or [""]
    ]
    return parts + [PolicyRule(nonResourceURLs=[u], verbs=[v]) for u in rule.nonResourceURLs for v in rule.verbs]


def covers(owner: PolicyRule, part: PolicyRule) -> bool:
    """Whether `owner` allows all that `part` (as `split` makes them) does."""
    if not _has(owner.verbs, part.verbs[0]):
        return False
    if part.nonResourceURLs:
        wanted = part.nonResourceURLs[0]
        return any(_url_covers(u, wanted) for u in owner.nonResourceURLs)
    resource, _, subresource = part.resources[0].partition("/")
    return (
        _has(owner.apiGroups, part.apiGroups[0])
        and resource_matches(owner.resources, resource, subresource)
        and (not owner.resourceNames or (bool(part.resourceNames) and part.resourceNames[0] in owner.resourceNames))
    )


def render(rule: PolicyRule) -> str:
    """As upstream's messages show a rule: `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`."""
    fields = (
        ("NonResourceURLs", rule.nonResourceURLs),
        ("APIGroups", rule.apiGroups),
        ("Resources", rule.resources),
        ("ResourceNames", rule.resourceNames),
        ("Verbs", rule.verbs),
    )
    shown = (f"{name}:[{' '.join(_quote(v) for v in values)}]" for name, values in fields if values)
    return "{" + ", ".join(shown) + "}"


def plan_compact(parts: Iterable[PolicyRule]) -> list[PolicyRule]:
    """Join rules that differ only in their verbs, in order of appearance: shorter messages and reviews."""
    joined: dict[tuple[tuple[str, ...], ...], PolicyRule] = {}
    for part in parts:
        key = (tuple(part.apiGroups), tuple(part.resources), tuple(part.resourceNames), tuple(part.nonResourceURLs))
        known = joined.get(key)
        if known is None:
            joined[key] = PolicyRule(
                apiGroups=part.apiGroups,
                resources=part.resources,
                resourceNames=part.resourceNames,
                nonResourceURLs=part.nonResourceURLs,
                verbs=list(part.verbs),
            )
        else:
            known.verbs.extend(v for v in part.verbs if v not in known.verbs)
    return list(joined.values())


def _has(values: Sequence[str], wanted: str) -> bool:
    return ALL in values or wanted in values


def _url_covers(owner: str, wanted: str) -> bool:
    if owner in (ALL, wanted):
        return True
    return owner.endswith("*") and wanted.rstrip("*").startswith(owner.rstrip("*"))


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
