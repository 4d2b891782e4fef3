import pytest

from kybern.api.core_v1 import ConfigMap, Secret
from kybern.api.meta_v1 import ObjectMeta
from kybern.controllers import bootstrap_signer
from kybern.controllers.bootstrap_token_cleaner import TYPE
from kybern.testing import control_plane

CONTENT = "apiVersion: v1\nhello\n"
# What a v1.36 controller manager wrote for CONTENT.
RECORDED = {
    "abcdef": "eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9..0cQSvVnMskqfm-jpN1mS2Nj-uDaQ0gBZyExnsuuuLI0",
    "eeeeee": "eyJhbGciOiJIUzI1NiIsImtpZCI6ImVlZWVlZSJ9..LsMOjWwIikTVtPLDBw2tw4Gr-nIiZi4Ho9f3OiQq6_w",
}


def token(name, **fields):
    texts = {
        "token-id": name,
        "token-secret": "0123456789abcdef",
        "usage-bootstrap-signing": "true",
        **{key.replace("_", "-"): value for key, value in fields.items()},
    }
    return Secret(
        metadata=ObjectMeta(name=f"bootstrap-token-{name}", namespace="kube-system"),
        type=TYPE,
        data={key: value.encode() if isinstance(value, str) else value for key, value in texts.items()},
    )


def info(**data):
    return ConfigMap(metadata=ObjectMeta(name="cluster-info", namespace="kube-public"), data=data)


def settle(controller, *objects, seconds=5.0, then=lambda api: None):
    async def scenario(plane):
        for obj in objects:
            plane.api.put(obj)
        await plane.clock.sleep(seconds)
        then(plane.api)
        await plane.clock.sleep(seconds)
        maps = plane.api.list(ConfigMap, "kube-public")
        tokens = sorted(s.metadata.name.removeprefix("bootstrap-token-") for s in plane.api.list(Secret))
        return maps[0].data if maps else None, tokens

    return control_plane.run([controller], scenario, node=False)


def signed(*tokens, **options):
    data = info(**{"kubeconfig": CONTENT, "jws-kubeconfig-zzzzzz": "stale", "other": "kept"})
    return settle("bootstrap-signer-controller", data, *tokens, **options)[0]


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_signatures_are_those_of_upstream(name):
    assert bootstrap_signer.sign(CONTENT, name, "0123456789abcdef") == RECORDED[name]


def test_every_token_that_may_sign_signs_and_nothing_else_does():
    off = token("bbbbbb", usage_bootstrap_signing="false")
    late = token("cccccc", expiration="2020-01-01T00:00:00Z")
    garbled = token("dddddd", expiration="soon")
    assert signed(token("abcdef"), token("eeeeee"), off, late, garbled) == {
        "kubeconfig": CONTENT,
        "other": "kept",
        **{f"jws-kubeconfig-{name}": text for name, text in RECORDED.items()},
    }


@pytest.mark.parametrize("fields", [{"token_secret": b"\xff\xfe"}, {"token_id": ""}, {"token_id": "another"}])
def test_a_token_that_is_not_one_signs_nothing(fields):
    assert "jws-kubeconfig-abcdef" not in signed(token("abcdef", **fields))


def test_signatures_go_with_their_token():
    gone = signed(token("abcdef"), then=lambda api: api.remove(Secret, "kube-system", "bootstrap-token-abcdef"))
    assert gone == {"kubeconfig": CONTENT, "other": "kept"}


def test_without_a_kubeconfig_there_is_nothing_to_sign():
    data = info(**{"jws-kubeconfig-abcdef": "stale"})
    assert settle("bootstrap-signer-controller", data, token("abcdef"))[0] == {}


def test_tokens_are_deleted_when_they_expire():
    tokens = (
        token("forever"),
        token("later", expiration="2027-01-01T00:00:00Z"),
        token("soon", expiration="2026-01-01T01:00:00Z"),
        token("past", expiration="2020-01-01T00:00:00Z"),
        token("garbled", expiration="soon"),
    )
    assert settle("token-cleaner-controller", *tokens)[1] == ["forever", "later", "soon"]
    assert settle("token-cleaner-controller", *tokens, seconds=3700.0)[1] == ["forever", "later"]
