"""Service account tokens: asked for once, renewed in time."""

import datetime

from kybern.api import scalars
from kybern.api.authentication_v1 import TokenRequest, TokenRequestStatus
from kybern.api.core_v1 import Pod, PodSpec
from kybern.api.meta_v1 import ObjectMeta
from kybern.kubelet.volumes.tokens import TokenSource
from kybern.testing import clock as virtual


class Client:
    """Only the one call."""

    def __init__(self, clock, life):
        self.clock, self.life, self.asked = clock, life, []

    async def create(self, obj, *, subresource, name, namespace):
        self.asked.append((subresource, name, namespace, obj.spec))
        expires = self.clock.now() + datetime.timedelta(seconds=self.life)
        status = TokenRequestStatus(token=f"t{len(self.asked)}", expirationTimestamp=scalars.render_time(expires))
        return TokenRequest(spec=obj.spec, status=status)


POD = Pod(metadata=ObjectMeta(name="p", namespace="ns", uid="u"), spec=PodSpec(serviceAccountName="robot"))


def drive(scenario, life=3600):
    async def main(clock):
        client = Client(clock, life)
        await scenario(TokenSource(client, clock), client, clock)

    virtual.run(main)


def test_a_token_is_bound_to_its_pod_and_asked_for_once():
    async def scenario(tokens, client, clock):
        assert await tokens.token(POD, "aud", 3600) == "t1"
        assert await tokens.token(POD, "aud", 3600) == "t1"
        assert await tokens.token(POD, "", 3600) == "t2"
        subresource, name, namespace, spec = client.asked[0]
        assert (subresource, name, namespace) == ("token", "robot", "ns")
        assert (spec.audiences, spec.boundObjectRef.uid, spec.expirationSeconds) == (["aud"], "u", 3600)
        assert client.asked[1][3].audiences == []

    drive(scenario)


def test_a_token_is_renewed_when_four_fifths_of_its_life_are_over():
    async def scenario(tokens, client, clock):
        await tokens.token(POD, "", 1000)
        assert 799 <= tokens.renew_in("u") <= 800
        await clock.sleep(799)
        assert await tokens.token(POD, "", 1000) == "t1"
        await clock.sleep(2)
        assert await tokens.token(POD, "", 1000) == "t2"

    drive(scenario, life=1000)


def test_a_life_longer_than_asked_for_does_not_put_off_the_renewal():
    async def scenario(tokens, client, clock):
        await tokens.token(POD, "", 3607)
        assert tokens.renew_in("u") <= 0.8 * 3607

    drive(scenario, life=365 * 24 * 3600)


def test_tokens_of_a_pod_that_is_gone_are_forgotten():
    async def scenario(tokens, client, clock):
        await tokens.token(POD, "", 3600)
        tokens.forget("u")
        assert tokens.renew_in("u") is None
        assert await tokens.token(POD, "", 3600) == "t2"

    drive(scenario)
