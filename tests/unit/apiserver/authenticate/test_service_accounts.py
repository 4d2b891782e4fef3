from __future__ import annotations

import base64
import datetime
import hmac
import json
import random

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from kybern.api import codec, scalars
from kybern.api.authentication_v1 import BoundObjectReference, TokenRequest, TokenRequestSpec
from kybern.api.core_v1 import Node, Pod, PodSpec, Secret, ServiceAccount
from kybern.api.meta_v1 import ObjectMeta
from kybern.apiserver.authenticate.issue import IssuerOptions, TokenIssuer
from kybern.apiserver.authenticate.keys import KeyRing, SigningKey, parse_public_keys
from kybern.apiserver.authenticate.service_accounts import ServiceAccountTokens
from kybern.apiserver.authenticate.verdict import InvalidToken
from kybern.machinery.status import ApiError
from kybern.testing.clock import FakeClock
from kybern.testing.objects import ObjectTable

ISSUER = "https://kubernetes.default.svc.cluster.local"


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


KEY = pem(ec.generate_private_key(ec.SECP256R1()))
OTHER = pem(ec.generate_private_key(ec.SECP256R1()))


class World:
    """An account, a pod of it on a node, an issuer and a judge over them."""

    def __init__(self, key: bytes = KEY, **options: object) -> None:
        self.clock = FakeClock()
        self.objects = ObjectTable()
        self.account = self.objects.put(ServiceAccount(metadata=ObjectMeta(name="robot", namespace="ns")))
        self.node = self.objects.put(Node(metadata=ObjectMeta(name="n1")))
        self.pod = self.objects.put(
            Pod(metadata=ObjectMeta(name="p", namespace="ns"), spec=PodSpec(serviceAccountName="robot", nodeName="n1"))
        )
        signing = SigningKey(key)
        options_ = IssuerOptions(**options)  # type: ignore[arg-type]
        self.issuer = TokenIssuer(signing, options_, self.objects, self.clock, random.Random(1))
        ring = KeyRing(parse_public_keys(key))
        self.tokens = ServiceAccountTokens(ring, (ISSUER,), (ISSUER,), self.objects, self.clock)

    def issue(self, **spec: object) -> TokenRequest:
        return self.issuer.issue_token(self.account, TokenRequest(spec=TokenRequestSpec(**spec)))  # type: ignore[arg-type]

    def token(self, **spec: object) -> str:
        token = self.issue(**spec).status.token
        assert token
        return token

    def bound_to_pod(self) -> str:
        return self.token(boundObjectRef=BoundObjectReference(apiVersion="v1", kind="Pod", name="p"))

    def refuses(self, token: str, because: str) -> bool:
        with pytest.raises(InvalidToken, match=because):
            self.tokens.authenticate(token, (ISSUER,))
        return True


def encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def claims_of(token: str) -> dict[str, object]:
    body = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


def test_a_token_stands_for_its_account() -> None:
    world = World()
    found = world.tokens.authenticate(world.token(), (ISSUER,))
    assert found is not None
    assert found.user.name == "system:serviceaccount:ns:robot"
    assert found.user.uid == world.account.metadata.uid
    assert found.user.groups == ("system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated")
    assert found.audiences == (ISSUER,)


def test_claims_are_those_of_upstream() -> None:
    world = World()
    claims = claims_of(world.bound_to_pod())
    now = int(world.clock.now().timestamp())
    assert claims == {
        "aud": [ISSUER],
        "exp": now + 3600,
        "iat": now,
        "iss": ISSUER,
        "jti": claims["jti"],
        "kubernetes.io": {
            "namespace": "ns",
            "node": {"name": "n1", "uid": world.node.metadata.uid},
            "pod": {"name": "p", "uid": world.pod.metadata.uid},
            "serviceaccount": {"name": "robot", "uid": world.account.metadata.uid},
        },
        "nbf": now,
        "sub": "system:serviceaccount:ns:robot",
    }
    header = jwt.get_unverified_header(world.token())
    assert set(header) == {"alg", "kid"}
    assert header["alg"] == "ES256"


def test_a_pods_token_tells_pod_and_node() -> None:
    world = World()
    found = world.tokens.authenticate(world.bound_to_pod(), (ISSUER,))
    assert found is not None
    extra = dict(found.user.extra)
    assert extra.pop("authentication.kubernetes.io/credential-id")[0].startswith("JTI=")
    assert extra == {
        "authentication.kubernetes.io/pod-name": ("p",),
        "authentication.kubernetes.io/pod-uid": (world.pod.metadata.uid,),
        "authentication.kubernetes.io/node-name": ("n1",),
        "authentication.kubernetes.io/node-uid": (world.node.metadata.uid,),
    }


def test_a_token_dies_with_its_pod_also_when_it_was_used_before() -> None:
    world = World()
    token = world.bound_to_pod()
    assert world.tokens.authenticate(token, (ISSUER,))
    world.objects.remove("pods", "ns", "p")
    assert world.refuses(token, "no pods ns/p")


def test_a_token_dies_when_its_pod_is_made_anew_under_the_same_name() -> None:
    world = World()
    token = world.bound_to_pod()
    world.objects.remove("pods", "ns", "p")
    world.objects.put(world.pod.__class__(metadata=ObjectMeta(name="p", namespace="ns")))
    assert world.refuses(token, "made anew")


def test_a_token_outlives_the_deletion_of_its_pod_by_a_minute() -> None:
    world = World()
    token = world.bound_to_pod()
    pod = codec.clone(world.pod)
    pod.metadata.deletionTimestamp = scalars.render_time(world.clock.now())
    world.objects.put(pod)
    world.clock.move(60)
    assert world.tokens.authenticate(token, (ISSUER,))
    world.clock.move(1)
    assert world.refuses(token, "is deleted")


@pytest.mark.parametrize("resource", ["secrets", "nodes"])
def test_a_token_dies_with_the_object_it_is_bound_to(resource: str) -> None:
    world = World()
    world.objects.put(Secret(metadata=ObjectMeta(name="s", namespace="ns")))
    kind, namespace, name = {"secrets": ("Secret", "ns", "s"), "nodes": ("Node", "", "n1")}[resource]
    token = world.token(boundObjectRef=BoundObjectReference(apiVersion="v1", kind=kind, name=name))
    assert world.tokens.authenticate(token, (ISSUER,))
    world.objects.remove(resource, namespace, name)
    assert world.refuses(token, "has been invalidated")


def test_a_pods_token_survives_its_node() -> None:
    world = World()
    token = world.bound_to_pod()
    world.objects.remove("nodes", "", "n1")
    assert world.tokens.authenticate(token, (ISSUER,))


def test_a_token_dies_with_its_account() -> None:
    world = World()
    token = world.token()
    world.objects.remove("serviceaccounts", "ns", "robot")
    assert world.refuses(token, "no serviceaccounts ns/robot")


def test_a_token_expires() -> None:
    world = World()
    token = world.token(expirationSeconds=600)
    world.clock.move(659)
    assert world.tokens.authenticate(token, (ISSUER,))
    world.clock.move(1)
    assert world.refuses(token, "expired")


def test_a_token_is_good_for_its_audiences_only() -> None:
    world = World()
    token = world.token(audiences=["vault", "mail"])
    assert world.refuses(token, "audiences")
    found = world.tokens.authenticate(token, ("mail", "other"))
    assert found is not None
    assert found.audiences == ("mail",)


def test_an_rsa_key_works_too() -> None:
    world = World(pem(rsa.generate_private_key(65537, 2048)))
    token = world.token()
    assert jwt.get_unverified_header(token)["alg"] == "RS256"
    assert world.tokens.authenticate(token, (ISSUER,))


def test_a_token_of_another_key_is_refused() -> None:
    world = World()
    theirs = SigningKey(OTHER).sign(claims_of(world.token()))
    assert world.refuses(theirs, "not signed by a key of this cluster")


def test_a_changed_token_is_refused() -> None:
    world = World()
    head, _, signature = world.token().split(".")
    claims = claims_of(world.token()) | {"sub": "system:serviceaccount:kube-system:admin"}
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    assert world.refuses(f"{head}.{body}.{signature}", "not signed")


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
def test_a_token_cannot_choose_how_it_is_judged(algorithm: str) -> None:
    world = World()
    public = parse_public_keys(KEY)[0].key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    head = encode(json.dumps({"alg": algorithm}).encode())
    body = encode(json.dumps(claims_of(world.token())).encode())
    signature = "" if algorithm == "none" else encode(hmac.digest(public, f"{head}.{body}".encode(), "sha256"))
    forged = f"{head}.{body}.{signature}"
    assert world.refuses(forged, "not signed by a key of this cluster")


def test_the_subject_must_be_the_account_of_the_claims() -> None:
    world = World()
    claims = claims_of(world.token()) | {"sub": "system:serviceaccount:kube-system:admin"}
    assert world.refuses(SigningKey(KEY).sign(claims), "subject")


@pytest.mark.parametrize(
    "change",
    [
        {"kubernetes.io": None},
        {"kubernetes.io": {"namespace": 7}},
        {"kubernetes.io": []},
        {"exp": "soon"},
        {"exp": None},
        {"aud": {"a": 1}},
        {"sub": ["x"]},
    ],
)
def test_claims_of_the_wrong_shape_are_refused(change: dict[str, object]) -> None:
    world = World()
    assert world.refuses(SigningKey(KEY).sign(claims_of(world.token()) | change), ".")


@pytest.mark.parametrize("token", ["", "a", "a.b", "a.b.c", "....", "e30.e30.", "\ud83d.x.y", "." * 1000])
def test_what_is_no_token_of_ours_is_left_to_others(token: str) -> None:
    assert World().tokens.authenticate(token.encode("utf-8", "replace").decode(), (ISSUER,)) is None


def test_a_token_of_another_issuer_is_left_to_others() -> None:
    world = World()
    theirs = SigningKey(KEY).sign(claims_of(world.token()) | {"iss": "https://example.com"})
    assert world.tokens.authenticate(theirs, (ISSUER,)) is None


class TestLegacySecrets:
    def world(self, secret_type: str = "kubernetes.io/service-account-token") -> tuple[World, str]:
        world = World()
        prefix = "kubernetes.io/serviceaccount/"
        token = SigningKey(KEY).sign(
            {
                "iss": "kubernetes/serviceaccount",
                "sub": "system:serviceaccount:ns:robot",
                prefix + "namespace": "ns",
                prefix + "secret.name": "robot-token",
                prefix + "service-account.name": "robot",
                prefix + "service-account.uid": world.account.metadata.uid,
            }
        )
        meta = ObjectMeta(name="robot-token", namespace="ns")
        world.objects.put(Secret(metadata=meta, type=secret_type, data={"token": token.encode()}))
        return world, token

    def test_a_token_in_a_secret_works_while_the_secret_holds_it(self) -> None:
        world, token = self.world()
        found = world.tokens.authenticate(token, (ISSUER,))
        assert found is not None
        assert found.user.name == "system:serviceaccount:ns:robot"
        world.objects.remove("secrets", "ns", "robot-token")
        assert world.refuses(token, "no secrets ns/robot-token")

    def test_the_secret_must_be_of_the_right_type(self) -> None:
        world, token = self.world("Opaque")
        assert world.refuses(token, "another token")

    def test_a_token_marked_unused_is_refused(self) -> None:
        world, token = self.world()
        secret = codec.clone(world.objects.get("secrets", "ns", "robot-token"))
        secret.metadata.labels["kubernetes.io/legacy-token-invalid-since"] = "2026-01-01"
        world.objects.put(secret)
        assert world.refuses(token, "unused")


class TestIssuing:
    def test_what_was_granted_is_told(self) -> None:
        world = World()
        granted = world.issue(expirationSeconds=7200)
        assert granted.spec.audiences == [ISSUER]
        assert granted.spec.expirationSeconds == 7200
        ends = world.clock.now() + datetime.timedelta(hours=2)
        assert granted.status.expirationTimestamp == scalars.render_time(ends)
        assert (granted.metadata.name, granted.metadata.namespace) == ("robot", "ns")

    @pytest.mark.parametrize(
        ("seconds", "detail"),
        [
            (599, "may not specify a duration less than 10 minutes"),
            (-1, "may not specify a duration less than 10 minutes"),
            (2**32 + 1, "may not specify a duration larger than 2^32 seconds"),
        ],
    )
    def test_a_lifetime_out_of_range_is_refused(self, seconds: int, detail: str) -> None:
        with pytest.raises(ApiError) as raised:
            World().issue(expirationSeconds=seconds)
        assert raised.value.code == 422
        assert str(raised.value).endswith(f"spec.expirationSeconds: Invalid value: {seconds}: {detail}")

    def test_a_lifetime_is_cut_to_the_clusters_limit(self) -> None:
        assert World(max_expiration=1800).issue(expirationSeconds=7200).spec.expirationSeconds == 1800

    def test_a_projected_token_may_secretly_live_a_year(self) -> None:
        world = World(extend_expiration=True)
        ref = BoundObjectReference(apiVersion="v1", kind="Pod", name="p")
        granted = world.issue(expirationSeconds=3607, boundObjectRef=ref)
        claims = claims_of(granted.status.token or "")
        now = int(world.clock.now().timestamp())
        assert claims["exp"] == now + 365 * 86400
        assert claims["kubernetes.io"]["warnafter"] == now + 3607  # type: ignore[index]
        assert granted.spec.expirationSeconds == 3607

    @pytest.mark.parametrize(
        ("ref", "code"),
        [
            (BoundObjectReference(apiVersion="v1", kind="Pod", name="gone"), 404),
            (BoundObjectReference(apiVersion="v1", kind="Pod", name="p", uid="other"), 409),
            (BoundObjectReference(apiVersion="v1", kind="Pod", name="stranger"), 400),
            (BoundObjectReference(apiVersion="v1", kind="ConfigMap", name="c"), 400),
            (BoundObjectReference(), 400),
        ],
    )
    def test_an_object_that_cannot_be_bound_to_is_refused(self, ref: BoundObjectReference, code: int) -> None:
        world = World()
        world.objects.put(Pod(metadata=ObjectMeta(name="stranger", namespace="ns")))
        with pytest.raises(ApiError) as raised:
            world.issue(boundObjectRef=ref)
        assert raised.value.code == code
