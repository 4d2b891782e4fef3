"""Users out of the tokens of OpenID Connect issuers, in a whole server."""

from __future__ import annotations

from typing import Any

import pytest

from kybern.apiserver.authenticate import configuration
from kybern.apiserver.authenticate.configuration import OidcFlags
from kybern.apiserver.request import Request, Response
from kybern.testing import api_server
from kybern.testing.api_server import Api
from kybern.testing.clock import FakeClock
from kybern.testing.issuer import EC, OTHER_RSA, URL, Issuer, token

HEAD = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n"
REVIEW = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


def config(rest: str, audiences: str = "[kybern]", issuer: str = "") -> configuration.Configuration:
    text = f"{HEAD}jwt:\n- issuer: {{url: '{URL}', audiences: {audiences}{issuer}}}\n{rest}"
    return configuration.parse(text.encode())


PLAIN = config("  claimMappings: {username: {claim: sub, prefix: 'oidc:'}}")


async def who(api: Api, text: str) -> Any:
    """The user of a token, or the code of the refusal."""
    answer = await api.create(REVIEW, {}, authorization=f"Bearer {text}")
    return answer.json["status"]["userInfo"] if answer.status == 201 else answer.status


def ask(found: configuration.Configuration, *texts: str, issuer: Issuer | None = None) -> list[Any]:
    async def scenario(api: Api) -> list[Any]:
        return [await who(api, text) for text in texts]

    options = {"authentication": found}
    return api_server.run(scenario, options=options, webhooks=issuer or Issuer())


def test_a_token_becomes_a_user() -> None:
    (user,) = ask(PLAIN, token(jti="7"))
    assert user == {
        "username": "oidc:john",
        "groups": ["system:authenticated"],
        "extra": {"authentication.kubernetes.io/credential-id": ["JTI=7"]},
    }


def test_flags_make_the_same_of_one_issuer() -> None:
    flags = OidcFlags(URL, "kybern", groups_claim="roles", groups_prefix="g:", required_claims=(("hd", "example"),))
    good, other = ask(
        configuration.of_flags(flags), token(roles=["a", "b"], hd="example"), token(roles=["a"], hd="other")
    )
    assert (good["username"], good["groups"]) == (f"{URL}#john", ["g:a", "g:b", "system:authenticated"])
    assert other == 401


def test_claims_are_mapped_by_expressions() -> None:
    found = config(
        "  claimMappings:\n"
        "    username: {expression: '\"k8s-\" + claims.sub'}\n"
        '    groups: {expression: \'(claims.roles.split(",") + claims.other_roles.split(",")).map(r, "p:" + r)\'}\n'
        "    uid: {expression: 'claims.uid'}\n"
        "    extra:\n"
        "    - {key: 'example.org/foo', valueExpression: \"'bar'\"}\n"
        "    - {key: 'example.org/baz', valueExpression: 'claims.baz'}\n"
        "    - {key: 'example.org/none', valueExpression: \"''\"}\n"
    )
    (user,) = ask(found, token(roles="a,b", other_roles="c", uid="1234", baz=["x", "y"], jti=7))
    assert user == {
        "username": "k8s-john",
        "uid": "1234",
        "groups": ["p:a", "p:b", "p:c", "system:authenticated"],
        "extra": {"example.org/foo": ["bar"], "example.org/baz": ["x", "y"]},
    }


def test_rules_of_claims_and_users_refuse() -> None:
    found = config(
        "  claimMappings: {username: {expression: claims.sub}}\n"
        "  claimValidationRules:\n"
        "  - {expression: 'claims.hd == \"example\"', message: wrong domain}\n"
        "  - {expression: 'claims.exp - claims.iat <= 7200'}\n"
        "  userValidationRules:\n"
        "  - {expression: \"!user.username.startsWith('system:')\", message: reserved}\n"
    )
    answers = ask(
        found,
        token(hd="example"),
        token(hd="other"),
        token(),
        token(hd="example", sub="system:admin"),
        token(hd="example", iat=0),
    )
    assert answers[0]["username"] == "john"
    assert answers[1:] == [401, 401, 401, 401]


def test_an_address_that_is_not_verified_is_no_name() -> None:
    found = config("  claimMappings: {username: {claim: email, prefix: ''}}")
    mail = "a@example.org"
    answers = ask(
        found, token(email=mail), token(email=mail, email_verified=True), token(email=mail, email_verified=False)
    )
    assert [a if a == 401 else a["username"] for a in answers] == [mail, mail, 401]


@pytest.mark.parametrize("sub", [None, "", 7, ["john"], {"a": 1}])
def test_a_token_without_a_name_is_refused(sub: Any) -> None:
    found = config("  claimMappings: {username: {expression: 'claims.name'}}")
    assert ask(found, token(sub=None, name=sub)) == [401]


def test_any_of_several_audiences_will_do() -> None:
    found = config("  claimMappings: {username: {claim: sub, prefix: ''}}", "[a, b]", ", audienceMatchPolicy: MatchAny")
    answers = ask(found, token(aud="b"), token(aud=["x", "a"]), token(aud="x"), token(aud=[]), token(aud=None))
    assert [a if a == 401 else a["username"] for a in answers] == ["john", "john", 401, 401, 401]


def test_keys_are_found_where_the_discovery_url_says() -> None:
    elsewhere = "https://inside.example/oidc"
    found = config("  claimMappings: {username: {claim: sub, prefix: ''}}", issuer=f", discoveryURL: '{elsewhere}'")
    issuer = Issuer(discovery_url=elsewhere)
    assert ask(found, token(), issuer=issuer)[0]["username"] == "john"
    assert issuer.fetched == [elsewhere, f"{URL}/keys"]


def test_keys_are_fetched_once_and_again_when_a_new_one_appears() -> None:
    issuer = Issuer()
    clock = FakeClock()

    async def scenario(api: Api) -> None:
        for _ in range(3):
            assert (await who(api, token()))["username"] == "oidc:john"
        assert len(issuer.fetched) == 2
        issuer.keys = {"two": EC}
        rotated = token(EC, "ES256", "two")
        assert await who(api, rotated) == 401
        assert len(issuer.fetched) == 2, "a stranger's tokens must not make us ask again and again"
        await clock.advance(11)
        assert (await who(api, rotated))["username"] == "oidc:john"
        assert await who(api, token()) == 401, "the old key is gone"

    api_server.run(scenario, options={"authentication": PLAIN}, webhooks=issuer, clock=clock)


def test_an_issuer_that_does_not_answer_refuses_and_is_asked_later() -> None:
    issuer = Issuer()
    issuer.broken = True
    clock = FakeClock()

    async def scenario(api: Api) -> None:
        assert await who(api, token()) == 401
        assert await who(api, token()) == 401
        assert len(issuer.fetched) == 1
        issuer.broken = False
        await clock.advance(11)
        assert (await who(api, token()))["username"] == "oidc:john"

    api_server.run(scenario, options={"authentication": PLAIN}, webhooks=issuer, clock=clock)


def test_another_configuration_takes_effect_at_once_and_keeps_the_keys() -> None:
    issuer = Issuer()

    async def scenario(api: Api) -> None:
        assert (await who(api, token()))["username"] == "oidc:john"
        api.server.authenticators.configure(PLAIN)
        assert (await who(api, token()))["username"] == "oidc:john"
        assert len(issuer.fetched) == 2
        api.server.authenticators.configure(config("  claimMappings: {username: {claim: sub, prefix: 'panda:'}}"))
        assert (await who(api, token()))["username"] == "panda:john"
        api.server.authenticators.configure(configuration.Configuration())
        assert await who(api, token()) == 401

    api_server.run(scenario, options={"authentication": PLAIN}, webhooks=issuer)


def test_a_token_review_knows_the_issuer_too() -> None:
    async def scenario(api: Api) -> Any:
        return (await api.create("/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": token()}})).ok()

    status = api_server.run(scenario, options={"authentication": PLAIN}, webhooks=Issuer())["status"]
    assert status["authenticated"]
    assert status["user"]["username"] == "oidc:john"


@pytest.mark.parametrize(
    ("anonymous", "codes"),
    [
        ("{enabled: false}", [401, 401, 401]),
        ("{enabled: true, conditions: [{path: /livez}]}", [401, 200, 401]),
        ("{enabled: true}", [200, 200, 403]),
    ],
)
def test_nobody_is_let_in_where_the_configuration_says_so(anonymous: str, codes: list[int]) -> None:
    async def scenario(api: Api) -> list[int]:
        answers = [api.server.application(Request("GET", p, p, {}, {})) for p in ("/healthz", "/livez", "/api/v1/pods")]
        return [a.status for a in answers if isinstance(a, Response)]

    found = configuration.parse(f"{HEAD}anonymous: {anonymous}".encode())
    assert api_server.run(scenario, options={"authentication": found}) == codes


def issuer_with(rest: str, issuer: str = "", url: str = URL, audiences: str = "[a]") -> str:
    return f"{HEAD}jwt: [{{issuer: {{url: '{url}', audiences: {audiences}{issuer}}}{rest}}}]"


NAMED = ", claimMappings: {username: {claim: a, prefix: ''}}"
FAULTS = {
    "another kind": "apiVersion: v1\nkind: Secret",
    "no https": issuer_with(NAMED, url="http://a"),
    "a query": issuer_with(NAMED, url="https://a?b"),
    "our own issuer": issuer_with(NAMED, url="https://own"),
    "no audience": issuer_with(NAMED, audiences="[]"),
    "two audiences": issuer_with(NAMED, audiences="[a, b]"),
    "no name": issuer_with(""),
    "no prefix": issuer_with(", claimMappings: {username: {claim: a}}"),
    "both forms": issuer_with(", claimMappings: {username: {claim: a, prefix: '', expression: claims.a}}"),
    "no expression": issuer_with(", claimMappings: {username: {expression: 'claims.'}}"),
    "no certificate": issuer_with(NAMED, ", certificateAuthority: x"),
    "the same discovery": issuer_with(NAMED, f", discoveryURL: '{URL}/'"),
    "an unverified address": issuer_with(", claimMappings: {username: {expression: claims.email}}"),
    "a reserved key": issuer_with(NAMED[:-1] + ", extra: [{key: kubernetes.io/a, valueExpression: claims.a}]}"),
    "a rule that is a number": issuer_with(NAMED + ", claimValidationRules: [{expression: '1 + 1'}]"),
    "a typo": HEAD + "jwtt: []",
    "conditions of nobody": HEAD + "anonymous: {enabled: false, conditions: [{path: /livez}]}",
    "no path": HEAD + "anonymous: {enabled: true, conditions: [{path: livez}]}",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_configuration_that_is_wrong_is_refused(fault: str) -> None:
    with pytest.raises(ValueError):
        configuration.parse(FAULTS[fault].encode(), ("https://own",))


def test_a_key_for_another_algorithm_does_not_fit() -> None:
    issuer = Issuer()
    issuer.keys = {"one": EC, "two": OTHER_RSA}
    assert ask(PLAIN, token(), issuer=issuer) == [401]
