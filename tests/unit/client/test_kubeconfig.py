"""Kubeconfig files: contexts, inline data and paths, and what is wrong with broken ones."""

import base64
import pathlib

import pytest

from kybern.client import kubeconfig

FULL = """
apiVersion: v1
kind: Config
current-context: main
clusters:
- name: c
  cluster: {server: "https://h:6443/", certificate-authority: ca.crt, tls-server-name: kube}
contexts:
- name: main
  context: {cluster: c, user: u, namespace: here}
- name: other
  context: {cluster: c, user: t}
users:
- name: u
  user: {client-certificate-data: "%s", client-key: u.key}
- name: t
  user: {token: abc}
"""


def write(tmp_path, text) -> pathlib.Path:
    file = tmp_path / "config"
    file.write_text(text)
    return file


def test_paths_are_relative_to_the_file_and_inline_data_wins(tmp_path):
    file = write(tmp_path, FULL % base64.b64encode(b"CERT").decode())
    access = kubeconfig.load(file)
    assert (access.server, access.namespace, access.tls_server_name) == ("https://h:6443", "here", "kube")
    assert access.ca.file == str(tmp_path / "ca.crt") and access.key.file == str(tmp_path / "u.key")
    assert access.certificate.read() == b"CERT"


def test_another_context_is_another_user(tmp_path):
    access = kubeconfig.load(write(tmp_path, FULL % "QQ=="), "other")
    assert access.token == "abc" and not access.certificate and access.namespace == "default"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "a mapping is expected"),
        ("a: [", "reading kubeconfig"),
        ("current-context: x", "no context named 'x'"),
        ("contexts: [{name: '', context: {cluster: c}}]", "no cluster named 'c'"),
        ("contexts: [{name: '', context: {cluster: c}}]\nclusters: [{name: c, cluster: {}}]", "has no server"),
        (FULL % "%%%", "is not base64"),
        (
            FULL.replace("{token: abc}", "{exec: {command: x}}").replace("main\ncl", "other\ncl") % "QQ==",
            "not supported",
        ),
    ],
)
def test_what_is_wrong_is_said(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        kubeconfig.load(write(tmp_path, text))


def test_a_pod_finds_its_own_account(tmp_path):
    environment = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    access = kubeconfig.in_cluster(tmp_path, environment)
    assert access.server == "https://[fd00::1]:443" and access.token_file == str(tmp_path / "token")
    with pytest.raises(ValueError, match="not in a cluster"):
        kubeconfig.in_cluster(tmp_path, {})
