"""What the strategies of pods, jobs, namespaces and others set, keep and refuse."""

from __future__ import annotations

from typing import Any

import pytest

from kybern.api import apps_v1, batch_v1, certificates_v1, core_v1
from kybern.api.meta_v1 import LabelSelector, ObjectMeta
from kybern.api.scalars import Quantity
from kybern.apiserver.registry import facts
from kybern.apiserver.registry.strategies import STRATEGIES
from kybern.apiserver.request import User
from kybern.machinery import scheme
from kybern.testing.writes import Refused, World


def meta(name: str = "x", namespace: str = "default", **fields: Any) -> ObjectMeta:
    return ObjectMeta(name=name, namespace=namespace, **fields)


def spec_of_pod(**fields: Any) -> core_v1.PodSpec:
    return core_v1.PodSpec(containers=[core_v1.Container(name="a", image="b")], **fields)


def template(**fields: Any) -> core_v1.PodTemplateSpec:
    return core_v1.PodTemplateSpec(metadata=ObjectMeta(labels={"a": "b"}), spec=spec_of_pod(**fields))


# -- pods --------------------------------------------------------------------------------------------------------


def pod(**fields: Any) -> core_v1.Pod:
    return core_v1.Pod(metadata=meta(labels={"app": "web"}), spec=spec_of_pod(**fields))


def test_a_new_pod_is_pending_whatever_its_body_says() -> None:
    wanted = pod()
    wanted.status = core_v1.PodStatus(phase="Running", podIP="1.2.3.4", qosClass="Guaranteed")
    created = World().post(wanted)
    # Upstream, too, believes the class.
    assert (created.status.phase, created.status.podIP, created.status.qosClass) == ("Pending", None, "Guaranteed")
    assert created.metadata.generation == 1


def test_the_service_class_counts_what_admission_adds() -> None:
    world = World()
    wanted = pod()
    strategy = world.strategy(wanted)
    strategy.prepare_create(wanted, User("u"))
    wanted.spec.containers[0].resources.requests = {"cpu": Quantity("1")}
    import asyncio

    asyncio.run(strategy.allocate(wanted, None, dry_run=False))
    assert wanted.status.qosClass == "Burstable"


def test_a_gated_pod_says_why_it_waits() -> None:
    gated = World().post(pod(schedulingGates=[core_v1.PodSchedulingGate(name="a/b")]))
    condition = gated.status.conditions[0]
    assert (condition.type, condition.status, condition.reason) == ("PodScheduled", "False", "SchedulingGated")


def test_label_keys_of_a_pod_join_its_selectors() -> None:
    constraint = core_v1.TopologySpreadConstraint(
        maxSkew=1,
        topologyKey="zone",
        whenUnsatisfiable="DoNotSchedule",
        labelSelector=LabelSelector(matchLabels={"x": "y"}),
        matchLabelKeys=["app", "absent"],
    )
    created = World().post(pod(topologySpreadConstraints=[constraint]))
    added = created.spec.topologySpreadConstraints[0].labelSelector.matchExpressions
    assert [(e.key, e.operator, e.values) for e in added] == [("app", "In", ["web"])]


def test_the_generation_of_a_pod_follows_its_spec_alone() -> None:
    world = World()
    created = world.post(pod())
    labelled = world.put(created, lambda p: p.metadata.labels.update(a="b"))
    assert labelled.metadata.generation == 1
    reported = world.put(labelled, lambda p: setattr(p.status, "phase", "Running"), subresource="status")
    assert (reported.metadata.generation, reported.status.phase) == (1, "Running")

    def upgrade(p: core_v1.Pod) -> None:
        p.spec.containers[0].image = "c"
        p.status.phase = "Failed"

    upgraded = world.put(reported, upgrade)
    assert (upgraded.metadata.generation, upgraded.status.phase) == (2, "Running")


def test_a_body_without_defaults_changes_nothing() -> None:
    world = World()
    created = world.post(pod())

    def bare(p: core_v1.Pod) -> None:
        p.spec = spec_of_pod()

    assert world.put(created, bare).metadata.generation == 1


def test_status_writers_change_neither_spec_nor_owners() -> None:
    world = World()
    created = world.post(pod())

    def meddle(p: core_v1.Pod) -> None:
        p.spec.nodeName = "n"
        p.status.podIP = "1.2.3.4"
        p.status.podIPs = [core_v1.PodIP(ip="1.2.3.4")]
        p.metadata.ownerReferences = []
        p.status.qosClass = None

    updated = world.put(created, meddle, subresource="status")
    assert updated.spec.nodeName is None
    assert (updated.status.podIP, updated.status.qosClass) == ("1.2.3.4", "BestEffort")


def test_ephemeral_containers_are_added_and_nothing_else() -> None:
    world = World()
    created = world.post(pod())

    def debug(p: core_v1.Pod) -> None:
        p.spec.ephemeralContainers = [core_v1.EphemeralContainer(name="debug", image="busybox")]
        p.spec.hostname = "ignored"

    updated = world.put(created, debug, subresource="ephemeralcontainers")
    assert [c.name for c in updated.spec.ephemeralContainers] == ["debug"]
    assert updated.spec.hostname is None
    assert updated.metadata.generation == 2
    with pytest.raises(Refused, match="may not be removed"):
        world.put(updated, lambda p: setattr(p.spec, "ephemeralContainers", []), subresource="ephemeralcontainers")


def test_a_resize_keeps_the_service_class() -> None:
    world = World()
    full = {"cpu": Quantity("1"), "memory": Quantity("1Gi")}
    wanted = pod()
    wanted.spec.containers[0].resources = core_v1.ResourceRequirements(requests=dict(full), limits=dict(full))
    created = world.post(wanted)

    def grow(p: core_v1.Pod) -> None:
        for amounts in (p.spec.containers[0].resources.requests, p.spec.containers[0].resources.limits):
            amounts["cpu"] = Quantity("2")

    assert world.put(created, grow, subresource="resize").spec.containers[0].resources.limits["cpu"] == "2"

    def lend(p: core_v1.Pod) -> None:
        p.spec.containers[0].resources.requests["cpu"] = Quantity("1")

    with pytest.raises(Refused, match="Pod QOS Class may not change"):
        world.put(created, lend, subresource="resize")


@pytest.mark.parametrize(
    ("node", "phase", "period", "asked", "seconds"),
    [
        ("n", "Running", 30, None, 30),
        ("n", "Running", 30, 5, 5),
        ("n", "Running", 30, 0, 0),
        ("n", "Running", 30, -1, 1),
        ("n", "Succeeded", 30, None, 0),
        ("n", "Failed", 30, 5, 0),
        (None, "Pending", 30, None, 0),
    ],
)
def test_a_pod_gets_time_to_end_where_a_kubelet_has_it(
    node: str | None, phase: str, period: int, asked: int | None, seconds: int
) -> None:
    found = pod(nodeName=node, terminationGracePeriodSeconds=period)
    found.status.phase = phase
    assert World().strategy(found).graceful_seconds(found, asked) == seconds


def test_pods_can_be_selected_by_node_and_phase() -> None:
    created = World().post(pod(nodeName="n1", hostNetwork=True))
    fields = World().strategy(created).selectable_fields(created)
    assert fields["spec.nodeName"] == "n1"
    assert fields["status.phase"] == "Pending"
    assert fields["spec.hostNetwork"] == "true"
    assert (fields["metadata.name"], fields["metadata.namespace"]) == ("x", "default")


# -- jobs --------------------------------------------------------------------------------------------------------


def job(**spec: Any) -> batch_v1.Job:
    pods = core_v1.PodTemplateSpec(spec=spec_of_pod(restartPolicy="Never"))
    return batch_v1.Job(metadata=meta(), spec=batch_v1.JobSpec(template=pods, **spec))


def test_a_job_tells_its_pods_apart_by_its_uid() -> None:
    created = World().post(job())
    uid = created.metadata.uid
    assert created.spec.selector.matchLabels == {"batch.kubernetes.io/controller-uid": uid}
    labels = {
        "batch.kubernetes.io/controller-uid": uid,
        "batch.kubernetes.io/job-name": "x",
        "controller-uid": uid,
        "job-name": "x",
    }
    assert created.spec.template.metadata.labels == labels
    assert created.metadata.labels == labels


def test_a_job_with_a_selector_of_its_own_is_left_alone() -> None:
    wanted = job(manualSelector=True, selector=LabelSelector(matchLabels={"a": "b"}))
    wanted.spec.template.metadata.labels = {"a": "b"}
    created = World().post(wanted)
    assert created.spec.selector.matchLabels == {"a": "b"}
    with pytest.raises(Refused, match="not auto-generated"):
        World().post(job(selector=LabelSelector(matchLabels={"a": "b"})))


# -- namespaces --------------------------------------------------------------------------------------------------


def test_a_namespace_ends_in_two_steps() -> None:
    world = World()
    created = world.post(core_v1.Namespace(metadata=meta("n", "")))
    assert created.spec.finalizers == ["kubernetes"]
    assert created.status.phase == "Active"
    assert created.metadata.labels == {"kubernetes.io/metadata.name": "n"}
    strategy = world.strategy(created)
    assert not strategy.may_go(created)
    strategy.begin_deletion(created)
    assert created.status.phase == "Terminating"
    kept = world.put(created, lambda n: setattr(n.spec, "finalizers", []))
    assert kept.spec.finalizers == ["kubernetes"]
    done = world.put(kept, lambda n: setattr(n.spec, "finalizers", []), subresource="finalize")
    assert strategy.may_go(done)


# -- others ------------------------------------------------------------------------------------------------------


def test_a_node_comes_with_its_status_and_later_writes_do_not_touch_it() -> None:
    world = World()
    wanted = core_v1.Node(metadata=meta("n", ""), status=core_v1.NodeStatus(capacity={"cpu": Quantity("4")}))
    created = world.post(wanted)
    assert created.status.capacity == {"cpu": "4"}
    updated = world.put(created, lambda n: setattr(n, "status", core_v1.NodeStatus()))
    assert updated.status.capacity == {"cpu": "4"}


def test_volumes_and_claims_start_pending() -> None:
    world = World()
    amounts = core_v1.VolumeResourceRequirements(requests={"storage": Quantity("1Gi")})
    claim_spec = core_v1.PersistentVolumeClaimSpec(accessModes=["ReadWriteOnce"], resources=amounts)
    claim = core_v1.PersistentVolumeClaim(metadata=meta(), spec=claim_spec)
    claim.status.phase = "Bound"
    assert world.post(claim).status.phase == "Pending"
    volume = core_v1.PersistentVolume(
        metadata=meta("v", ""),
        spec=core_v1.PersistentVolumeSpec(
            capacity={"storage": Quantity("1Gi")},
            accessModes=["ReadWriteOnce"],
            hostPath=core_v1.HostPathVolumeSource(path="/x"),
        ),
    )
    created = world.post(volume)
    assert (created.status.phase, created.status.lastPhaseTransitionTime) == ("Pending", "2026-01-01T00:00:00Z")
    world.advance(60)
    bound = world.put(created, lambda v: setattr(v.status, "phase", "Bound"), subresource="status")
    assert bound.status.lastPhaseTransitionTime == "2026-01-01T00:01:00Z"


def test_a_daemon_set_counts_its_templates() -> None:
    world = World()
    spec = apps_v1.DaemonSetSpec(selector=LabelSelector(matchLabels={"a": "b"}), template=template())
    created = world.post(apps_v1.DaemonSet(metadata=meta(), spec=spec))
    key = "deprecated.daemonset.template.generation"
    assert created.metadata.annotations[key] == "1"
    same = world.put(created, lambda d: setattr(d.spec, "minReadySeconds", 5))
    assert (same.metadata.annotations[key], same.metadata.generation) == ("1", 2)

    def upgrade(d: apps_v1.DaemonSet) -> None:
        d.spec.template.spec.containers[0].image = "c"

    assert world.put(same, upgrade).metadata.annotations[key] == "2"


REQUEST = b"""-----BEGIN CERTIFICATE REQUEST-----
"""


def request() -> certificates_v1.CertificateSigningRequest:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "system:node:n")])
    signed = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(name)
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    )
    return certificates_v1.CertificateSigningRequest(
        metadata=meta("csr", ""),
        spec=certificates_v1.CertificateSigningRequestSpec(
            request=signed.public_bytes(serialization.Encoding.PEM),
            signerName="example.com/signer",
            usages=["client auth"],
            username="somebody else",
        ),
    )


def condition(kind: str, status: str = "True") -> certificates_v1.CertificateSigningRequestCondition:
    return certificates_v1.CertificateSigningRequestCondition(type=kind, status=status)


def test_a_certificate_request_says_who_really_asked() -> None:
    user = User("me", uid="u1", groups=("g", "system:authenticated"), extra={"k": ("v",)})
    spec = World().post(request(), user).spec
    assert (spec.username, spec.uid, spec.groups, spec.extra) == (
        "me",
        "u1",
        ["g", "system:authenticated"],
        {"k": ["v"]},
    )


CERTIFICATE = b"""-----BEGIN CERTIFICATE-----
MIIBGDCBwKADAgECAgEHMAoGCCqGSM49BAMCMAwxCjAIBgNVBAMMAWEwHhcNMjYw
MTAxMDAwMDAwWhcNMjYwMTExMDAwMDAwWjAMMQowCAYDVQQDDAFhMFkwEwYHKoZI
zj0CAQYIKoZIzj0DAQcDQgAEOtaWNxO8nuaFgG+vKr2DHToOMgIcpsAY+Mk6ya85
sM3UlOmVxa2Z2GXwXw4GgKGhYbihxlJFu9/pzXTuec6ekqMTMBEwDwYDVR0TAQH/
BAUwAwEB/zAKBggqhkjOPQQDAgNHADBEAiAca8FcmCWRlMaNunhU0bovJeXEzF78
4kM9UHj0XeFhMgIgGEnzSr5UofRZpTVDRN55BJyITX5ivJKUCg2xh1qLzfQ=
-----END CERTIFICATE-----
"""


def test_approval_and_certificate_are_separate_writes() -> None:
    world = World()
    created = world.post(request())

    def approve(r: certificates_v1.CertificateSigningRequest) -> None:
        r.status.conditions = [condition("Approved"), condition("Anything", "False")]
        r.status.certificate = b"forged"

    approved = world.put(created, approve, subresource="approval")
    assert [c.type for c in approved.status.conditions] == ["Approved", "Anything"]
    assert approved.status.certificate is None
    assert approved.status.conditions[0].lastUpdateTime == "2026-01-01T00:00:00Z"

    def sign(r: certificates_v1.CertificateSigningRequest) -> None:
        r.status.certificate = CERTIFICATE

    def undecide(r: certificates_v1.CertificateSigningRequest) -> None:
        r.status.conditions = []

    with pytest.raises(Refused, match='may not remove a condition of type "Approved"'):
        world.put(approved, undecide, subresource="status")
    signed = world.put(approved, sign, subresource="status")
    assert [c.type for c in signed.status.conditions] == ["Approved", "Anything"]
    assert signed.status.certificate == CERTIFICATE

    def rewrite(r: certificates_v1.CertificateSigningRequest) -> None:
        r.spec.username = "other"

    assert world.put(signed, rewrite).spec.username == "somebody"


def test_every_listed_resource_exists() -> None:
    known = {r.group_resource for r in scheme.RESOURCES}
    listed = {*STRATEGIES}
    for table in (
        facts.GENERATION, facts.RETURNS_DELETED, facts.CONDITIONAL_UPDATE, facts.CREATE_ON_UPDATE, facts.ORPHANING,
    ):  # fmt: skip
        listed |= table
    assert listed <= known
