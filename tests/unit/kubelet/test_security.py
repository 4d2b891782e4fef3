"""Security contexts, merged, checked and translated."""

import pytest

from kybern.api.core_v1 import (
    Capabilities,
    Container,
    Pod,
    PodSecurityContext,
    PodSpec,
    SeccompProfile,
    SecurityContext,
    Sysctl,
)
from kybern.api.meta_v1 import ObjectMeta
from kybern.kubelet import security
from kybern.kubelet.cri.contract import NamespaceMode, ProfileType, SandboxConfig
from kybern.kubelet.failures import StartFailed

ROOT, NAMED, NUMBERED = security.ImageUser(0), security.ImageUser(None, "app"), security.ImageUser(1000)


def pod(container, context=None, **spec):
    return Pod(
        metadata=ObjectMeta(name="p", namespace="ns", uid="u"),
        spec=PodSpec(containers=[container], securityContext=context, **spec),
    )


def test_the_container_wins_over_the_pod_and_the_image_comes_last():
    inner = Container(name="c", securityContext=SecurityContext(runAsUser=5))
    outer = PodSecurityContext(runAsUser=7, runAsGroup=8, supplementalGroups=[3, 4], fsGroup=9)
    got = security.container_security(pod(inner, outer), inner, NUMBERED, seccomp_default=False)
    assert (got.run_as_user, got.run_as_group, got.supplemental_groups) == (5, 8, (3, 4, 9))
    plain = Container(name="c")
    assert security.container_security(pod(plain), plain, NUMBERED, seccomp_default=False).run_as_user == 1000
    named = security.container_security(pod(plain), plain, NAMED, seccomp_default=False)
    assert (named.run_as_user, named.run_as_username) == (None, "app")


@pytest.mark.parametrize(
    ("user", "image", "message"),
    [
        (None, ROOT, "image will run as root"),
        (None, security.ImageUser(), "image will run as root"),
        (None, NAMED, "image has non-numeric user (app)"),
        (0, NUMBERED, "container's runAsUser breaks non-root policy"),
        (None, NUMBERED, ""),
        (1, ROOT, ""),
    ],
)
def test_non_root_is_enforced_and_what_cannot_be_verified_is_refused(user, image, message):
    container = Container(name="c", securityContext=SecurityContext(runAsUser=user, runAsNonRoot=True))
    if not message:
        security.check_non_root(pod(container), container, image)
        return
    with pytest.raises(StartFailed, match="container") as failed:
        security.check_non_root(pod(container), container, image)
    assert message in failed.value.message
    assert '(pod: "p_ns(u)", container: c)' in failed.value.message


def test_privileged_containers_are_not_confined():
    context = SecurityContext(privileged=True, seccompProfile=SeccompProfile(type="RuntimeDefault"))
    container = Container(name="c", securityContext=context)
    got = security.container_security(pod(container), container, ROOT, seccomp_default=True)
    assert got.privileged
    assert got.masked_paths == got.readonly_paths == ()
    assert got.seccomp.type is ProfileType.UNCONFINED


def test_seccomp_is_what_was_asked_or_the_nodes_default():
    plain = Container(name="c")
    for default, expected in ((False, ProfileType.UNCONFINED), (True, ProfileType.RUNTIME_DEFAULT)):
        assert security.container_security(pod(plain), plain, ROOT, seccomp_default=default).seccomp.type is expected
    local = Container(
        name="c",
        securityContext=SecurityContext(seccompProfile=SeccompProfile(type="Localhost", localhostProfile="a.json")),
    )
    got = security.container_security(pod(local), local, ROOT, seccomp_default=False).seccomp
    assert (got.type, got.localhost_ref) == (ProfileType.LOCALHOST, "a.json")


def test_capabilities_and_privilege_escalation_are_passed_on():
    context = SecurityContext(
        allowPrivilegeEscalation=False, capabilities=Capabilities(add=["NET_ADMIN"], drop=["ALL"]),
        readOnlyRootFilesystem=True,
    )  # fmt: skip
    container = Container(name="c", securityContext=context)
    got = security.container_security(pod(container), container, ROOT, seccomp_default=False)
    assert (got.no_new_privs, got.readonly_rootfs) == (True, True)
    assert (got.add_capabilities, got.drop_capabilities) == (("NET_ADMIN",), ("ALL",))
    assert "/proc/kcore" in got.masked_paths


def test_namespaces_follow_the_spec_and_an_ephemeral_container_joins_its_target():
    container = Container(name="c")
    plain = security.namespaces(pod(container))
    assert (plain.network, plain.pid, plain.ipc) == (NamespaceMode.POD, NamespaceMode.CONTAINER, NamespaceMode.POD)
    host = security.namespaces(pod(container, hostNetwork=True, hostPID=True, hostIPC=True))
    assert {host.network, host.pid, host.ipc} == {NamespaceMode.NODE}
    assert security.namespaces(pod(container, shareProcessNamespace=True)).pid is NamespaceMode.POD
    joined = security.container_security(pod(container), container, ROOT, seccomp_default=False, target_id="x")
    assert (joined.namespaces.pid, joined.namespaces.target_id) == (NamespaceMode.TARGET, "x")


def test_a_sandbox_gets_sysctls_with_dots_and_no_group_without_user():
    context = PodSecurityContext(sysctls=[Sysctl(name="net/ipv4/tcp_syncookies", value="1")], runAsGroup=5)
    got = security.sandbox_security(pod(Container(name="c"), context), SandboxConfig("p", "u", "ns", 0))
    assert got.sysctls == {"net.ipv4.tcp_syncookies": "1"}
    assert (got.run_as_user, got.run_as_group) == (None, None)


@pytest.mark.parametrize(
    ("name", "spec", "allowed", "is_fine"),
    [
        ("kernel.shm_rmid_forced", {}, (), True),
        ("kernel/shm_rmid_forced", {}, (), True),
        ("kernel.msgmax", {}, (), False),
        ("kernel.msgmax", {}, ("kernel.msg*",), True),
        ("net.ipv4.tcp_syncookies", {"hostNetwork": True}, (), False),
        ("kernel.shm_rmid_forced", {"hostIPC": True}, (), False),
    ],
)
def test_only_safe_or_allowed_sysctls_pass(name, spec, allowed, is_fine):
    context = PodSecurityContext(sysctls=[Sysctl(name=name, value="1")])
    problem = security.forbidden_sysctl(pod(Container(name="c"), context, **spec), allowed)
    assert (problem == "") is is_fine
