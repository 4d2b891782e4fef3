import pytest

from kybern.machinery import feature_gates


def test_gates_stand_as_upstream_has_them():
    gates = feature_gates.Gates()
    assert gates.is_on("SidecarContainers")
    assert not gates.is_on(feature_gates.POD_CERTIFICATE_REQUEST)
    rows = dict(gates.rows())
    assert rows[("SidecarContainers", "")] == 1.0
    assert rows[("PodCertificateRequest", "BETA")] == 0.0
    assert len(rows) > 200


def test_switches_are_turned():
    gates = feature_gates.parse("PodCertificateRequest=true, ClusterTrustBundleProjection=True,SidecarContainers=true")
    assert gates.is_on("PodCertificateRequest")
    assert gates.is_on("ClusterTrustBundleProjection")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Nonsense=true", "unrecognized feature gate: Nonsense"),
        ("PodCertificateRequest", "is not of the form"),
        ("PodCertificateRequest=1", "is not of the form"),
        ("SidecarContainers=false", "SidecarContainers is on and cannot be switched here"),
    ],
)
def test_what_cannot_be_turned_is_told(text, message):
    with pytest.raises(ValueError, match=message):
        feature_gates.parse(text)
