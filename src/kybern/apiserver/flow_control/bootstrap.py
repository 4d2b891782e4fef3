"""The FlowSchemas and PriorityLevelConfigurations that every cluster has. Pure.

Two schemas and two levels are mandatory: the server acts as if they were there even where they are not. The others are
suggestions: made again as well where they are missing, but people may change them, and the annotation "false" (or,
where there is none, a second generation) says that they did. Called by upkeep and control. Source: "Maintenance of the
Mandatory and Suggested Configuration Objects" in the documentation, and the objects of a v1.36 server.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from kybern.api import codec
from kybern.api.flowcontrol_v1 import (
    ExemptPriorityLevelConfiguration,
    FlowDistinguisherMethod,
    FlowSchema,
    FlowSchemaSpec,
    GroupSubject,
    LimitedPriorityLevelConfiguration,
    LimitResponse,
    NonResourcePolicyRule,
    PolicyRulesWithSubjects,
    PriorityLevelConfiguration,
    PriorityLevelConfigurationReference,
    PriorityLevelConfigurationSpec,
    QueuingConfiguration,
    ResourcePolicyRule,
    ServiceAccountSubject,
    Subject,
    UserSubject,
)
from kybern.api.meta_v1 import ObjectMeta

AUTO_UPDATE = "apf.kubernetes.io/autoupdate-spec"

T = TypeVar("T", bound="FlowSchema | PriorityLevelConfiguration")


def _meta(name: str) -> ObjectMeta:
    return ObjectMeta(name=name, annotations={AUTO_UPDATE: "true"})


def _level(name: str, shares: int, lendable: int, queues: int = 0, hand: int = 6) -> PriorityLevelConfiguration:
    response = LimitResponse(type="Reject")
    if queues:
        response = LimitResponse(
            type="Queue", queuing=QueuingConfiguration(queues=queues, handSize=hand, queueLengthLimit=50)
        )
    limited = LimitedPriorityLevelConfiguration(
        nominalConcurrencyShares=shares, lendablePercent=lendable, limitResponse=response
    )
    spec = PriorityLevelConfigurationSpec(type="Limited", limited=limited)
    return PriorityLevelConfiguration(metadata=_meta(name), spec=spec)


def _groups(*names: str) -> list[Subject]:
    return [Subject(kind="Group", group=GroupSubject(name=name)) for name in names]


def _users(*names: str) -> list[Subject]:
    return [Subject(kind="User", user=UserSubject(name=name)) for name in names]


def _accounts(namespace: str) -> list[Subject]:
    account = ServiceAccountSubject(name="*", namespace=namespace)
    return [Subject(kind="ServiceAccount", serviceAccount=account)]


def _all(subjects: list[Subject]) -> PolicyRulesWithSubjects:
    resources = ResourcePolicyRule(verbs=["*"], apiGroups=["*"], resources=["*"], namespaces=["*"], clusterScope=True)
    paths = NonResourcePolicyRule(verbs=["*"], nonResourceURLs=["*"])
    return PolicyRulesWithSubjects(subjects=subjects, resourceRules=[resources], nonResourceRules=[paths])


def _schema(name: str, precedence: int, level: str, distinguisher: str, rule: PolicyRulesWithSubjects) -> FlowSchema:
    spec = FlowSchemaSpec(
        matchingPrecedence=precedence,
        priorityLevelConfiguration=PriorityLevelConfigurationReference(name=level),
        distinguisherMethod=FlowDistinguisherMethod(type=distinguisher) if distinguisher else None,
        rules=[rule],
    )
    return FlowSchema(metadata=_meta(name), spec=spec)


def _leases(verbs: Sequence[str]) -> ResourcePolicyRule:
    return ResourcePolicyRule(
        verbs=list(verbs), apiGroups=["coordination.k8s.io"], resources=["leases"], namespaces=["*"]
    )


_KCM, _SCHEDULER = "system:kube-controller-manager", "system:kube-scheduler"
_EVERYBODY = ("system:unauthenticated", "system:authenticated")

MANDATORY_LEVELS = (
    PriorityLevelConfiguration(
        metadata=_meta("exempt"),
        spec=PriorityLevelConfigurationSpec(
            type="Exempt", exempt=ExemptPriorityLevelConfiguration(nominalConcurrencyShares=0, lendablePercent=0)
        ),
    ),
    _level("catch-all", 5, 0),
)
MANDATORY_SCHEMAS = (
    _schema("exempt", 1, "exempt", "", _all(_groups("system:masters"))),
    _schema("catch-all", 10000, "catch-all", "ByUser", _all(_groups(*_EVERYBODY))),
)
SUGGESTED_LEVELS = (
    _level("system", 30, 33, 64),
    _level("node-high", 40, 25, 64),
    _level("leader-election", 10, 0, 16, 4),
    _level("workload-high", 40, 50, 128),
    _level("workload-low", 100, 90, 128),
    _level("global-default", 20, 50, 128),
)
SUGGESTED_SCHEMAS = (
    _schema("system-nodes", 500, "system", "ByUser", _all(_groups("system:nodes"))),
    _schema(
        "system-node-high", 400, "node-high", "ByUser",
        PolicyRulesWithSubjects(
            subjects=_groups("system:nodes"),
            resourceRules=[
                ResourcePolicyRule(
                    verbs=["*"], apiGroups=[""], resources=["nodes", "nodes/status"], namespaces=["*"],
                    clusterScope=True,
                ),
                _leases(["*"]),
            ],
        ),
    ),
    _schema(
        "probes", 2, "exempt", "",
        PolicyRulesWithSubjects(
            subjects=_groups(*_EVERYBODY),
            nonResourceRules=[
                NonResourcePolicyRule(verbs=["get"], nonResourceURLs=["/healthz", "/readyz", "/livez"])
            ],
        ),
    ),
    _schema(
        "system-leader-election", 100, "leader-election", "ByUser",
        PolicyRulesWithSubjects(
            subjects=[*_users(_KCM, _SCHEDULER), *_accounts("kube-system")],
            resourceRules=[_leases(["get", "create", "update"])],
        ),
    ),
    _schema("kube-controller-manager", 800, "workload-high", "ByNamespace", _all(_users(_KCM))),
    _schema("kube-scheduler", 800, "workload-high", "ByNamespace", _all(_users(_SCHEDULER))),
    _schema("kube-system-service-accounts", 900, "workload-high", "ByNamespace", _all(_accounts("kube-system"))),
    _schema("service-accounts", 9000, "workload-low", "ByUser", _all(_groups("system:serviceaccounts"))),
    _schema("global-default", 9900, "global-default", "ByUser", _all(_groups(*_EVERYBODY))),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """What must be written so that the bootstrap objects of one resource are as they must be."""

    create: tuple[Any, ...] = ()
    update: tuple[Any, ...] = ()
    delete: tuple[Any, ...] = ()


def plan(existing: Iterable[T], mandatory: Sequence[T], suggested: Sequence[T]) -> Plan:
    """What is missing, differs from what it must be, or is left over from another version."""
    found = {obj.metadata.name: obj for obj in existing}
    create = [obj for obj in (*mandatory, *suggested) if obj.metadata.name not in found]
    update = []
    known = set()
    for obj in mandatory:
        known.add(obj.metadata.name)
        old = found.get(obj.metadata.name)
        if old is not None:
            update += _changed(old, obj, is_ours=True)
    for obj in suggested:
        known.add(obj.metadata.name)
        old = found.get(obj.metadata.name)
        if old is not None:
            update += _changed(old, obj, is_ours=_is_auto_updated(old))
    delete = [obj for name, obj in found.items() if name not in known and _is_marked(obj)]
    return Plan(tuple(codec.clone(obj) for obj in create), tuple(update), tuple(delete))


def _is_auto_updated(obj: FlowSchema | PriorityLevelConfiguration) -> bool:
    value = (obj.metadata.annotations or {}).get(AUTO_UPDATE, "")
    if value in ("true", "false"):
        return value == "true"
    return obj.metadata.generation == 1  # nobody has changed the spec


def _is_marked(obj: FlowSchema | PriorityLevelConfiguration) -> bool:
    return (obj.metadata.annotations or {}).get(AUTO_UPDATE) == "true"


def _changed(old: T, wanted: T, *, is_ours: bool) -> list[T]:
    """The object as it should be, if it is not."""
    marked = "true" if is_ours else "false"
    spec = wanted.spec if is_ours else old.spec
    if wanted.metadata.name == "exempt" and isinstance(old, PriorityLevelConfiguration) and not _is_auto_updated(old):
        spec, marked = old.spec, "false"  # its seats are for people to choose
    is_marked = (old.metadata.annotations or {}).get(AUTO_UPDATE) == marked
    if is_marked and old.spec == spec:
        return []
    new = codec.clone(old)
    new.metadata.annotations = {**(old.metadata.annotations or {}), AUTO_UPDATE: marked}
    new.spec = codec.clone(spec)
    return [new]


def with_mandatory(existing: Iterable[T], mandatory: Sequence[T]) -> list[T]:
    """The objects, and those of the mandatory ones that are missing."""
    found = list(existing)
    names = {obj.metadata.name for obj in found}
    return found + [obj for obj in mandatory if obj.metadata.name not in names]
