"""Conversations that a v1.36 API server had (the .jsonl.xz files here), asked again of this one.

    paths          methods and Accept headers on every class of path
    lists          parameters of LIST and WATCH
    missing        subresources of what is missing: logs, exec, proxies, evictions, bindings
    service_proxy  which endpoints of a service may be reached
    deletions      options of deletions, in body and query, with finalizers
    life_cycles    create, update, patch, apply, status, scale, delete of every kind
    services       every type of Service made, made into every other, patched, applied, and their status
    events         both versions of events, made in one and changed and read in the other
    claims         volume claims: made, resized, their status, held by finalizers; volumes
    pod_changes    resize, ephemeralcontainers, bindings, evictions under budgets; forms of subresources
    pages          health, statusz, flagz in their forms; deletecollection with all it can be told
    reviews        access and token reviews, tokens

See kybern.testing.transcript.
"""

from __future__ import annotations

import pathlib

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kybern.testing import api_server, transcript
from kybern.testing.api_server import Api

FILES = sorted(pathlib.Path(__file__).parent.glob("*.jsonl.xz"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name.partition(".")[0])
def test_answers_are_those_of_upstream(file: pathlib.Path) -> None:
    cases = transcript.read(file)

    async def scenario(api: Api) -> None:
        for namespace in ("default", "kube-system"):
            account = {"metadata": {"name": "default"}}
            await api.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", account)
        await api.create("/api/v1/nodes", {"metadata": {"name": "n1"}})
        wrong = await transcript.replay(api, cases)
        assert not wrong, f"{len(wrong)} of {len(cases)} differ:\n" + "\n".join(wrong[:20])

    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    public = key.public_key().public_bytes(serialization.Encoding.PEM, spki)
    api_server.run(scenario, options={"service_account_signing_key": pem, "service_account_public_key": public})
