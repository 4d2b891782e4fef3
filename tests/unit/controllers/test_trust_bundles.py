"""The bundle of the server's authorities, and requests of pods for certificates that are over."""

from kybern.api.certificates_v1beta1 import ClusterTrustBundle, ClusterTrustBundleSpec, PodCertificateRequest
from kybern.api.meta_v1 import ObjectMeta
from kybern.controllers import registry, trust_bundle_publisher
from kybern.controllers.settings import Settings
from kybern.testing import control_plane

PUBLISHER = trust_bundle_publisher.NAME
SIGNER = trust_bundle_publisher.SIGNER


def published(root_ca, *objects):
    async def scenario(plane):
        for obj in objects:
            plane.api.put(obj)
        await plane.clock.sleep(5)
        return {b.metadata.name: b.spec.trustBundle for b in plane.api.list(ClusterTrustBundle)}

    return control_plane.run([PUBLISHER], scenario, node=False, settings=Settings(root_ca=root_ca))


def bundle(name, text, signer=SIGNER):
    spec = ClusterTrustBundleSpec(signerName=signer, trustBundle=text)
    return ClusterTrustBundle(metadata=ObjectMeta(name=name), spec=spec)


def test_the_authorities_are_published_under_a_name_that_tells_them():
    digest = "ba7816bf8f01cfea414140de"  # SHA-256 of "abc", FIPS 180-2
    assert published("abc") == {f"kubernetes.io:kube-apiserver-serving:{digest}": "abc"}


def test_older_bundles_of_the_signer_go_and_those_of_others_stay():
    name = trust_bundle_publisher.plan_bundle("abc").metadata.name
    old, other = bundle("kubernetes.io:kube-apiserver-serving:old", "old"), bundle("other", "x", "example.com/s")
    assert published("abc", old, other, bundle(name, "spoilt")) == {name: "abc", "other": "x"}


def test_without_authorities_nothing_is_published_or_deleted():
    assert published("", bundle("kubernetes.io:kube-apiserver-serving:old", "old")) != {}


def test_requests_for_certificates_go_after_a_quarter_of_an_hour():
    async def scenario(plane):
        plane.api.put(PodCertificateRequest(metadata=ObjectMeta(name="r", namespace="default")))
        await plane.clock.sleep(890)
        amid = len(plane.api.list(PodCertificateRequest))
        await plane.clock.sleep(20)
        return amid, len(plane.api.list(PodCertificateRequest))

    assert control_plane.run(["podcertificaterequest-cleaner-controller"], scenario, node=False) == (1, 0)


def test_what_is_off_upstream_is_on_only_where_it_is_named():
    off = {"bootstrap-signer-controller", "token-cleaner-controller", PUBLISHER}
    assert not off & set(registry.select(["*"]))
    assert off <= set(registry.select(["*", *off]))
    assert "ttl-controller" not in registry.select(["*", "-ttl-controller"])
    assert registry.select(["service-lb-controller"]) == []
