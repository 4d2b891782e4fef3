"""Getting images onto the node."""

import base64

import msgspec
import pytest

from kybern.api.core_v1 import Container, Pod, PodSpec, Secret
from kybern.api.meta_v1 import ObjectMeta
from kybern.kubelet import images
from kybern.kubelet.cri.contract import CriError, Image, SandboxConfig
from kybern.kubelet.failures import Reason, StartFailed
from kybern.testing import clock as virtual
from kybern.testing.fake_cri import FakeCri


@pytest.mark.parametrize(
    ("text", "host", "path", "tag", "full"),
    [
        ("busybox", "", "busybox", "", "busybox:latest"),
        ("busybox:1.2", "", "busybox", "1.2", "busybox:1.2"),
        ("a/b/c", "", "a/b/c", "", "a/b/c:latest"),
        ("localhost:5000/x", "localhost:5000", "x", "", "localhost:5000/x:latest"),
        ("registry.k8s.io/e2e/pause:3.10", "registry.k8s.io", "e2e/pause", "3.10", "registry.k8s.io/e2e/pause:3.10"),
        ("host:1234/a_b__c-d.e", "host:1234", "a_b__c-d.e", "", "host:1234/a_b__c-d.e:latest"),
    ],
)
def test_names_are_taken_apart_and_completed(text, host, path, tag, full):
    name = images.parse_name(text)
    assert (name.host, name.path, name.tag, name.full()) == (host, path, tag, full)


def test_a_digest_needs_no_tag():
    digest = "sha256:" + "a" * 64
    assert images.parse_name(f"x/y@{digest}").full() == f"x/y@{digest}"
    assert images.parse_name(f"x/y:1@{digest}").full() == f"x/y:1@{digest}"


@pytest.mark.parametrize("text", ["", "UPPER", "a b", "x:", ":tag", "x@sha256:zz", "a//b", "x" * 2000])
def test_what_is_no_name_is_refused(text):
    with pytest.raises(ValueError, match="invalid reference format"):
        images.parse_name(text)


def pull_secret(auths):
    data = msgspec.json.encode({"auths": auths})
    return Secret(type="kubernetes.io/dockerconfigjson", data={".dockerconfigjson": data})


def test_credentials_are_found_by_registry_and_path():
    token = base64.b64encode(b"joe:pw:x").decode()
    secrets = [
        pull_secret({"https://index.docker.io/v1/": {"auth": token}}),
        pull_secret({"*.example.com": {"username": "a", "password": "b"}, "r.example.com/team": {"username": "t"}}),
        Secret(data={".dockerconfigjson": b"not json"}),
    ]
    hub = images.credentials_for(images.parse_name("busybox"), secrets)
    assert [(a.username, a.password) for a in hub] == [("joe", "pw:x")]
    team = images.credentials_for(images.parse_name("r.example.com/team/app"), secrets)
    assert [a.username for a in team] == ["t", "a"]
    assert images.credentials_for(images.parse_name("other.org/app"), secrets) == []
    assert images.credentials_for(images.parse_name("a.b.example.com/app"), secrets) == []


class Events:
    """Collects what a recorder would write."""

    def __init__(self):
        self.seen = []

    def event(self, obj, kind, reason, message, *, field_path=""):
        self.seen.append((kind, reason, field_path))


def drive(scenario, known=("app:1",)):
    async def main(clock):
        cri, events = FakeCri(clock, known), Events()
        await scenario(images.Images(cri, events, clock), cri, events, clock)

    virtual.run(main)


async def ensure(tested, image, policy=None):
    container = Container(name="c", image=image, imagePullPolicy=policy)
    pod = Pod(metadata=ObjectMeta(name="p", uid="u"), spec=PodSpec(containers=[container]))
    return await tested.ensure(pod, container, [], SandboxConfig("p", "u", "ns", 0))


def test_an_image_that_is_there_is_not_pulled():
    async def scenario(tested, cri, events, clock):
        assert (await ensure(tested, "app:1")).tags == ("app:1",)
        assert (await ensure(tested, "app:1", "Never")).tags == ("app:1",)
        assert "pull_image" not in cri.calls
        assert events.seen[0] == ("Normal", "Pulled", "spec.containers{c}")

    drive(scenario)


def test_never_means_never():
    async def scenario(tested, cri, events, clock):
        with pytest.raises(StartFailed) as failed:
            await ensure(tested, "app:2", "Never")
        assert failed.value.reason is Reason.IMAGE_NEVER_PULL
        assert "pull_image" not in cri.calls

    drive(scenario)


def test_always_asks_the_registry_even_if_it_is_there():
    async def scenario(tested, cri, events, clock):
        cri.remote["app:1"] = Image("sha256:new", ("app:1",), (), 5)
        assert (await ensure(tested, "app:1", "Always")).id == "sha256:new"
        assert [reason for _, reason, _ in events.seen] == ["Pulling", "Pulled"]

    drive(scenario)


def test_a_failed_pull_backs_off_longer_and_longer_until_it_succeeds():
    async def scenario(tested, cri, events, clock):
        async def reason():
            with pytest.raises(StartFailed) as failed:
                await ensure(tested, "app:2")
            return failed.value.reason

        assert await reason() is Reason.IMAGE_PULL
        assert await reason() is Reason.IMAGE_BACK_OFF
        await clock.sleep(10.1)
        assert await reason() is Reason.IMAGE_PULL
        await clock.sleep(10.1)
        assert await reason() is Reason.IMAGE_BACK_OFF
        cri.remote["app:2"] = Image("sha256:two", ("app:2",), (), 5)
        await clock.sleep(10.0)
        assert (await ensure(tested, "app:2")).id == "sha256:two"

    drive(scenario)


def test_a_bad_name_and_a_failing_inspection_have_reasons_of_their_own():
    async def scenario(tested, cri, events, clock):
        with pytest.raises(StartFailed) as failed:
            await ensure(tested, "BAD NAME")
        assert failed.value.reason is Reason.IMAGE_NAME
        cri.failures["image_status"] = [CriError("ImageStatus", "Unknown", "disk on fire")]
        with pytest.raises(StartFailed) as failed:
            await ensure(tested, "app:1")
        assert failed.value.reason is Reason.IMAGE_INSPECT

    drive(scenario)
