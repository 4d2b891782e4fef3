"""Which flow schema a request belongs to: the first match in order of precedence.

Fed with FlowSchemas by control, which remembers what comes out; read by nobody else. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from kybern.api.flowcontrol_v1 import (
    FlowSchema,
    NonResourcePolicyRule,
    PolicyRulesWithSubjects,
    ResourcePolicyRule,
    Subject,
)
from kybern.apiserver.request import RequestInfo, User

_SERVICE_ACCOUNT = "system:serviceaccount:"


@dataclass(frozen=True, slots=True)
class Schema:
    """A flow schema as classification needs it."""

    name: str
    uid: str
    level: str
    distinguisher: str  # "", "ByUser", "ByNamespace"
    precedence: int
    matches: Callable[[User, RequestInfo], bool]

    def flow_of(self, user: User, info: RequestInfo) -> str:
        """What tells this request's flow from the others of the schema."""
        if self.distinguisher == "ByUser":
            return user.name
        return info.namespace if self.distinguisher == "ByNamespace" else ""


def compile_schemas(objects: Iterable[FlowSchema], levels: Iterable[str]) -> list[Schema]:
    """The usable schemas in the order in which they are asked: those whose level does not exist match nothing."""
    known = set(levels)
    found = [_compile(o) for o in objects if o.spec.priorityLevelConfiguration.name in known]
    return sorted(found, key=lambda schema: (schema.precedence, schema.name))


def classify(schemas: Sequence[Schema], user: User, info: RequestInfo) -> Schema:
    """The first that matches. There is one for everything; a user in no known group falls to the last."""
    for schema in schemas:
        if schema.matches(user, info):
            return schema
    return schemas[-1]


def _compile(obj: FlowSchema) -> Schema:
    rules = list(obj.spec.rules)
    method = obj.spec.distinguisherMethod

    def matches(user: User, info: RequestInfo) -> bool:
        return any(_rule_matches(rule, user, info) for rule in rules)

    return Schema(
        name=obj.metadata.name,
        uid=obj.metadata.uid,
        level=obj.spec.priorityLevelConfiguration.name,
        distinguisher=method.type if method is not None else "",
        precedence=obj.spec.matchingPrecedence or 1000,
        matches=matches,
    )


def _rule_matches(rule: PolicyRulesWithSubjects, user: User, info: RequestInfo) -> bool:
    if not any(_subject_matches(subject, user) for subject in rule.subjects):
        return False
    if info.is_resource:
        return any(_resource_matches(r, info) for r in rule.resourceRules)
    return any(_path_matches(r, info) for r in rule.nonResourceRules)


def _subject_matches(subject: Subject, user: User) -> bool:
    if subject.kind == "User" and subject.user is not None:
        return subject.user.name in ("*", user.name)
    if subject.kind == "Group" and subject.group is not None:
        return subject.group.name == "*" or subject.group.name in user.groups
    if subject.kind == "ServiceAccount" and subject.serviceAccount is not None:
        account = subject.serviceAccount
        if account.name == "*":
            return user.name.startswith(f"{_SERVICE_ACCOUNT}{account.namespace}:")
        return user.name == f"{_SERVICE_ACCOUNT}{account.namespace}:{account.name}"
    return False


def _resource_matches(rule: ResourcePolicyRule, info: RequestInfo) -> bool:
    if not _has(rule.verbs, info.verb) or not _has(rule.apiGroups, info.group):
        return False
    if info.namespace:
        if not _has(rule.namespaces, info.namespace):
            return False
    elif not rule.clusterScope:
        return False
    resource = f"{info.plural}/{info.subresource}" if info.subresource else info.plural
    return _has(rule.resources, resource)


def _path_matches(rule: NonResourcePolicyRule, info: RequestInfo) -> bool:
    return _has(rule.verbs, info.verb) and any(_url_matches(url, info.path) for url in rule.nonResourceURLs)


def _url_matches(url: str, path: str) -> bool:
    """`/healthz` is that path and what is below it; `/healthz/*` only what is below. As a v1.36 server answers."""
    if url in ("*", path):
        return True
    prefix = url.removesuffix("*").rstrip("/") + "/"
    return path.startswith(prefix)


def _has(values: Sequence[str], value: str) -> bool:
    return "*" in values or value in values
