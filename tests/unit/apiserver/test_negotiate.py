from __future__ import annotations

import pytest

from kybern.apiserver import negotiate
from kybern.apiserver.negotiate import Accepted, Shape
from kybern.machinery import scheme
from kybern.machinery.status import ApiError

META = "g=meta.k8s.io;v=v1"
PARTIAL: Shape = "PartialObjectMetadata"
PROTOBUF = "application/vnd.kubernetes.protobuf"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", Accepted()),
        ("*/*", Accepted()),
        ("application/json", Accepted()),
        ("APPLICATION/JSON; charset=utf-8", Accepted()),
        ("application/json;stream=watch", Accepted()),
        ("application/yaml", Accepted("yaml")),
        ("application/json;q=0.2, application/yaml;q=0.3", Accepted("yaml")),
        ("application/vnd.kubernetes.protobuf, application/json", Accepted("protobuf")),
        (f"application/vnd.kubernetes.protobuf;as=Table;{META},application/json", Accepted()),
        (f"application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;{META}", Accepted("protobuf", PARTIAL, "v1")),
        (f"application/json;as=Table;{META}", Accepted("json", "Table", "v1")),
        (f"application/yaml;as=Table;{META}", Accepted("yaml", "Table", "v1")),
        ('application/json;as="Table";g=meta.k8s.io;v=v1beta1', Accepted("json", "Table", "v1beta1")),
        (f"application/json;as=Nope;{META},application/json", Accepted()),
        ("application/json;as=Table;v=v1,*/*", Accepted()),
        ("application/json;q=nan,application/yaml", Accepted("yaml")),
        ("application/json;q=x,application/yaml", Accepted("yaml")),
        (", ,application/json", Accepted()),
    ],
)
def test_the_first_wish_that_can_be_had(accept: str, expected: Accepted) -> None:
    assert negotiate.choose(accept) == expected


@pytest.mark.parametrize("accept", ["text/plain", "application/json;q=0", ";", "application/yaml;q=-1", "x" * 100_000])
def test_nothing_fits(accept: str) -> None:
    with pytest.raises(ApiError) as caught:
        negotiate.choose(accept)
    assert (caught.value.code, caught.value.reason) == (406, "NotAcceptable")


def test_a_watch_is_never_yaml() -> None:
    assert negotiate.choose("application/yaml,application/json", streams=True) == Accepted()
    with pytest.raises(ApiError):
        negotiate.choose("application/yaml", streams=True)


DEPLOYMENTS = next(r for r in scheme.RESOURCES if r.plural == "deployments")


def test_an_object_is_no_list_and_a_list_no_object() -> None:
    one = negotiate.choose(f"application/json;as=PartialObjectMetadata;{META}")
    many = negotiate.choose(f"application/json;as=PartialObjectMetadataList;{META}")
    negotiate.check_shape(one, DEPLOYMENTS, is_list=False)
    negotiate.check_shape(many, DEPLOYMENTS, is_list=True)
    for accepted, is_list in ((one, True), (many, False)):
        with pytest.raises(ApiError) as caught:
            negotiate.check_shape(accepted, DEPLOYMENTS, is_list=is_list)
        assert caught.value.code == 406
        assert str(caught.value).endswith("(*apps.DeploymentList)" if is_list else "(*apps.Deployment)")


def test_custom_objects_have_no_protobuf_but_their_metadata_has() -> None:
    assert negotiate.choose(f"{PROTOBUF},application/json", False, False) == Accepted()
    with pytest.raises(ApiError):
        negotiate.choose(PROTOBUF, False, False)
    partial = negotiate.choose(f"{PROTOBUF};as=PartialObjectMetadata;{META}", False, False)
    assert partial.encoding == "protobuf"


@pytest.mark.parametrize(
    ("accept", "encoding"),
    [
        ("", "json"),
        ("text/html", "json"),
        (PROTOBUF, "protobuf"),
        (f"{PROTOBUF},application/json", "protobuf"),
        (f"{PROTOBUF};as=PartialObjectMetadata;{META}", "json"),
        (f"application/json;as=Table;{META},application/json", "json"),
        ("application/yaml", "yaml"),
    ],
)
def test_errors_come_in_what_the_client_reads(accept: str, encoding: str) -> None:
    assert negotiate.for_status(accept).encoding == encoding
