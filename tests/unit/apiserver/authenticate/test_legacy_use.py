"""Legacy tokens leave the day of their last use on their Secret."""

from __future__ import annotations

import datetime
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from kybern.apiserver.authenticate.keys import SigningKey
from kybern.apiserver.authenticate.legacy_use import LAST_USED
from kybern.testing import api_server
from kybern.testing.api_server import Api
from kybern.testing.clock import FakeClock

KEY = ec.generate_private_key(ec.SECP256R1())
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
SECRET = "/api/v1/namespaces/default/secrets/robot-token"
TRACKER = "/api/v1/namespaces/kube-system/configmaps/kube-apiserver-legacy-service-account-token-tracking"


def claims(uid: str) -> dict[str, Any]:
    prefix = "kubernetes.io/serviceaccount/"
    return {
        "iss": "kubernetes/serviceaccount",
        "sub": "system:serviceaccount:default:robot",
        f"{prefix}namespace": "default",
        f"{prefix}secret.name": "robot-token",
        f"{prefix}service-account.name": "robot",
        f"{prefix}service-account.uid": uid,
    }


def test_a_use_is_written_once_a_day_and_since_when_is_known() -> None:
    clock = FakeClock(datetime.datetime(2026, 1, 1, 23, 50, tzinfo=datetime.UTC))

    async def scenario(api: Api) -> None:
        accounts = "/api/v1/namespaces/default/serviceaccounts"
        account = (await api.create(accounts, {"metadata": {"name": "robot"}})).ok()
        headers = {"kid": SigningKey(PEM).public.id}
        token = jwt.encode(claims(account["metadata"]["uid"]), KEY, "ES256", headers)
        meta = {"name": "robot-token", "annotations": {"kubernetes.io/service-account.name": "robot"}}
        secret = {"metadata": meta, "type": "kubernetes.io/service-account-token", "stringData": {"token": token}}
        (await api.create("/api/v1/namespaces/default/secrets", secret)).ok()

        async def use_and_read() -> tuple[str, str]:
            assert (await api.get("/version", authorization=f"Bearer {token}")).status == 200
            await clock.advance(11)
            found = (await api.get(SECRET)).ok()["metadata"]
            return found["labels"][LAST_USED], found["resourceVersion"]

        first, version = await use_and_read()
        assert first == "2026-01-01"
        assert (await api.get(TRACKER)).ok()["data"] == {"since": "2026-01-01"}
        assert await use_and_read() == (first, version)
        await clock.advance(600)  # past midnight
        assert (await use_and_read())[0] == "2026-01-02"

    api_server.run(scenario, options={"service_account_public_key": PEM}, clock=clock)
