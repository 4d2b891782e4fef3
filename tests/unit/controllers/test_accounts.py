"""Default accounts, root CA, legacy tokens, aggregated roles."""

import base64
import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from kybern.api.core_v1 import ConfigMap, Namespace, ObjectReference, Secret, ServiceAccount
from kybern.api.meta_v1 import LabelSelector, ObjectMeta
from kybern.api.rbac_v1 import AggregationRule, ClusterRole, PolicyRule
from kybern.controllers import token_cleaner
from kybern.controllers.serviceaccount_token import plan as tokens
from kybern.controllers.settings import Settings
from kybern.testing import control_plane


def run(names, scenario, **settings):
    return control_plane.run(names, scenario, node=False, settings=Settings(**settings))


def test_every_namespace_has_a_default_account_and_the_root_ca_and_gets_them_back():
    names = ["serviceaccount-controller", "root-ca-certificate-publisher-controller"]

    async def scenario(plane):
        await plane.client.create(Namespace(metadata=ObjectMeta(name="new")))
        await plane.clock.sleep(1)
        first = plane.api.get(ServiceAccount, "new", "default"), plane.api.get(ConfigMap, "new", "kube-root-ca.crt")
        await plane.client.delete(ServiceAccount, "new", "default")
        await plane.client.delete(ConfigMap, "new", "kube-root-ca.crt")
        await plane.clock.sleep(1)
        restored = plane.api.get(ServiceAccount, "new", "default"), plane.api.get(ConfigMap, "new", "kube-root-ca.crt")

        def tamper(found):
            found.data["ca.crt"] = "forged"

        plane.api.edit(ConfigMap, "new", "kube-root-ca.crt", tamper)
        await plane.clock.sleep(1)
        return first, restored, plane.api.get(ConfigMap, "new", "kube-root-ca.crt").data

    first, restored, data = run(names, scenario, root_ca="PEM")
    assert all(first) and all(restored) and first[0].metadata.uid != restored[0].metadata.uid
    assert data == {"ca.crt": "PEM"}


def test_a_namespace_going_away_gets_nothing():
    async def scenario(plane):
        await plane.client.create(Namespace(metadata=ObjectMeta(name="new")))
        await plane.clock.sleep(1)
        await plane.client.delete(Namespace, "", "new")
        plane.api.remove(ServiceAccount, "new", "default")
        await plane.clock.sleep(5)
        return plane.api.get(ServiceAccount, "new", "default")

    assert run(["serviceaccount-controller"], scenario) is None


def secret(account="robot", **annotations):
    meta = ObjectMeta(name="token", namespace="default", annotations={tokens.ACCOUNT_NAME: account} | annotations)
    return Secret(metadata=meta, type=tokens.TYPE)


def pem(key):
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


KEYS = {"ES256": ec.generate_private_key(ec.SECP256R1()), "RS256": rsa.generate_private_key(65537, 2048)}


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
def test_a_token_secret_is_filled_with_a_signed_token(algorithm):
    import jwt

    key = KEYS[algorithm]

    async def scenario(plane):
        account = plane.api.put(ServiceAccount(metadata=ObjectMeta(name="robot", namespace="default")))
        plane.api.put(secret())
        await plane.until(lambda: plane.api.get(Secret, "default", "token").data)
        return account, plane.api.get(Secret, "default", "token")

    account, filled = run(["serviceaccount-token-controller"], scenario, root_ca="PEM", service_account_key=pem(key))
    assert (filled.data["ca.crt"], filled.data["namespace"]) == (b"PEM", b"default")
    assert filled.metadata.annotations[tokens.ACCOUNT_UID] == account.metadata.uid
    token = filled.data["token"].decode()
    claims = jwt.decode(token, key.public_key(), algorithms=[algorithm])
    assert claims["sub"] == "system:serviceaccount:default:robot"
    assert claims["kubernetes.io/serviceaccount/service-account.uid"] == account.metadata.uid
    head = token.split(".")[0]
    assert json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))["kid"]


def test_a_token_secret_goes_with_its_account_and_not_with_a_namesake():
    async def scenario(plane):
        plane.api.put(ServiceAccount(metadata=ObjectMeta(name="robot", namespace="default")))
        plane.api.put(secret())
        await plane.until(lambda: plane.api.get(Secret, "default", "token").data)
        plane.api.put(Secret(metadata=ObjectMeta(name="other", namespace="default"), type="Opaque"))
        await plane.client.delete(ServiceAccount, "default", "robot")
        plane.api.put(ServiceAccount(metadata=ObjectMeta(name="robot", namespace="default")))
        await plane.clock.sleep(5)
        return [s.metadata.name for s in plane.api.list(Secret)]

    assert run(["serviceaccount-token-controller"], scenario, service_account_key=pem(KEYS["ES256"])) == ["other"]


def test_tokens_nobody_used_for_a_year_are_marked_and_a_year_later_deleted():
    day = 86400

    async def scenario(plane):
        tracker = ConfigMap(
            metadata=ObjectMeta(name=token_cleaner.TRACKER, namespace="kube-system"), data={"since": "2026-01-01"}
        )
        plane.api.put(tracker)
        account = ServiceAccount(
            metadata=ObjectMeta(name="robot", namespace="default"), secrets=[ObjectReference(name="token")]
        )
        plane.api.put(account)
        plane.api.put(secret())
        by_hand = secret()
        by_hand.metadata.name = "by-hand"
        plane.api.put(by_hand)
        found = []
        for _ in range(3):
            await plane.clock.sleep(9 * day)
            token = plane.api.get(Secret, "default", "token")
            found.append(token and token.metadata.labels.get(token_cleaner.INVALID_SINCE))
        return found, plane.api.get(Secret, "default", "by-hand").metadata.labels

    names = ["legacy-serviceaccount-token-cleaner-controller"]
    found, by_hand = run(names, scenario, legacy_service_account_token_clean_up_period=10 * day)
    assert found == [None, "2026-01-11", None] and by_hand == {}


def test_aggregated_roles_hold_the_rules_of_what_they_select():
    def role(name, *resources, **labels):
        rules = [PolicyRule(apiGroups=[""], resources=[r], verbs=["get"]) for r in resources]
        return ClusterRole(metadata=ObjectMeta(name=name, labels=labels), rules=rules)

    async def scenario(plane):
        plane.api.put(role("b", "pods", "secrets", to="view"))
        plane.api.put(role("a", "pods", to="view"))
        plane.api.put(role("c", "nodes"))
        selector = LabelSelector(matchLabels={"to": "view"})
        aggregated = ClusterRole(
            metadata=ObjectMeta(name="view", labels={"to": "view"}),
            aggregationRule=AggregationRule(clusterRoleSelectors=[selector]),
        )
        plane.api.put(aggregated)
        await plane.clock.sleep(1)
        first = [r.resources[0] for r in plane.api.get(ClusterRole, "", "view").rules]
        plane.api.remove(ClusterRole, "", "b")
        await plane.clock.sleep(1)
        return first, [r.resources[0] for r in plane.api.get(ClusterRole, "", "view").rules]

    assert run(["clusterrole-aggregation-controller"], scenario) == (["pods", "secrets"], ["pods"])
