"""How much of a request is recorded: the rules of an audit policy file. Pure.

Read at start by `build`, asked by record for every request. The first rule that fits decides; without one nothing
is recorded.
Source: audit.k8s.io/v1 Policy in the documentation.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import msgspec

from kybern.apiserver.authorize.rules import path_matches
from kybern.apiserver.request import RequestInfo, User
from kybern.machinery import manifest

API_VERSION = "audit.k8s.io/v1"


class Level(enum.IntEnum):
    """In rising order of detail."""

    NONE = 0
    METADATA = 1
    REQUEST = 2
    REQUEST_RESPONSE = 3


LEVELS = {
    "None": Level.NONE,
    "Metadata": Level.METADATA,
    "Request": Level.REQUEST,
    "RequestResponse": Level.REQUEST_RESPONSE,
}
LEVEL_NAMES = {level: name for name, level in LEVELS.items()}
RECEIVED, STARTED, COMPLETE, PANIC = STAGES = ("RequestReceived", "ResponseStarted", "ResponseComplete", "Panic")


class GroupResources(msgspec.Struct, forbid_unknown_fields=True):
    group: str = ""
    resources: list[str] = []
    resourceNames: list[str] = []


class Rule(msgspec.Struct, forbid_unknown_fields=True):
    """All that is given must fit."""

    level: str = ""
    users: list[str] = []
    userGroups: list[str] = []
    verbs: list[str] = []
    resources: list[GroupResources] = []
    namespaces: list[str] = []
    nonResourceURLs: list[str] = []
    omitStages: list[str] = []
    omitManagedFields: bool | None = None


class _Metadata(msgspec.Struct):
    name: str = ""


class _File(msgspec.Struct, forbid_unknown_fields=True):
    apiVersion: str = ""
    kind: str = ""
    metadata: _Metadata | None = None
    rules: list[Rule] = []
    omitStages: list[str] = []
    omitManagedFields: bool = False


@dataclass(frozen=True, slots=True)
class Scope:
    """What a policy says about one request."""

    level: Level
    omit_stages: frozenset[str] = frozenset()
    omit_managed_fields: bool = False


NOTHING = Scope(Level.NONE)


class Policy:
    """`scope_of` a request. Raises ValueError when it is made of a file that is wrong."""

    def __init__(self, text: bytes) -> None:
        try:
            file = msgspec.convert(manifest.parse_yaml(text), _File)
        except msgspec.ValidationError as error:
            raise ValueError(f"audit policy: {error}") from None
        if (file.apiVersion, file.kind) != (API_VERSION, "Policy"):
            raise ValueError(f"audit policy: expected {API_VERSION} Policy, found {file.apiVersion} {file.kind}")
        if not file.rules:
            raise ValueError("audit policy: at least one rule is required")
        _check_stages(file.omitStages, "omitStages")
        for number, rule in enumerate(file.rules):
            _check(rule, f"rules[{number}]")
        self._rules = [
            (
                rule,
                Scope(
                    LEVELS[rule.level],
                    frozenset((*rule.omitStages, *file.omitStages)),
                    file.omitManagedFields if rule.omitManagedFields is None else rule.omitManagedFields,
                ),
            )
            for rule in file.rules
        ]

    def scope_of(self, user: User, info: RequestInfo) -> Scope:
        for rule, scope in self._rules:
            if _fits(rule, user, info):
                return scope
        return NOTHING


def _fits(rule: Rule, user: User, info: RequestInfo) -> bool:
    if rule.users and user.name not in rule.users:
        return False
    if rule.userGroups and not any(group in rule.userGroups for group in user.groups):
        return False
    if rule.verbs and info.verb not in rule.verbs:
        return False
    if rule.namespaces or rule.resources:
        return info.is_resource and _fits_resource(rule, info)
    if rule.nonResourceURLs:
        return not info.is_resource and any(path_matches(p, info.path) for p in rule.nonResourceURLs)
    return True


def _fits_resource(rule: Rule, info: RequestInfo) -> bool:
    if rule.namespaces and info.namespace not in rule.namespaces:
        return False
    if not rule.resources:
        return True
    return any(_fits_group(entry, info) for entry in rule.resources)


def _fits_group(entry: GroupResources, info: RequestInfo) -> bool:
    if entry.group != info.group:
        return False
    if entry.resourceNames and info.name not in entry.resourceNames:
        return False
    if not entry.resources or "*" in entry.resources:
        return True
    if not info.subresource:
        return info.plural in entry.resources
    wanted = {f"{info.plural}/{info.subresource}", f"*/{info.subresource}", f"{info.plural}/*"}
    return not wanted.isdisjoint(entry.resources)


def _check(rule: Rule, where: str) -> None:
    if rule.level not in LEVELS:
        raise ValueError(f"audit policy: {where}.level: expected one of {', '.join(LEVELS)}, found {rule.level!r}")
    _check_stages(rule.omitStages, f"{where}.omitStages")
    if rule.nonResourceURLs and (rule.resources or rule.namespaces):
        raise ValueError(f"audit policy: {where}: a rule is about resources or about nonResourceURLs, not both")
    for path in rule.nonResourceURLs:
        if path != "*" and (not path.startswith("/") or "*" in path[:-1]):
            raise ValueError(f"audit policy: {where}.nonResourceURLs: {path!r} is no path with a * at its end")
    for entry in rule.resources:
        if "/" in entry.group:
            raise ValueError(
                f"audit policy: {where}.resources: {entry.group!r} is a group with a version: leave it out"
            )
        if entry.resourceNames and not entry.resources:
            raise ValueError(f"audit policy: {where}.resources: resourceNames need resources")


def _check_stages(stages: list[str], where: str) -> None:
    for stage in stages:
        if stage not in STAGES:
            raise ValueError(f"audit policy: {where}: expected one of {', '.join(STAGES)}, found {stage!r}")
