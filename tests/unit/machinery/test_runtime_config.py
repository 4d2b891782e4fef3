from __future__ import annotations

import pytest

from kybern.machinery import runtime_config


def test_only_what_is_stable_is_on() -> None:
    is_enabled = runtime_config.parse("")
    assert is_enabled("", "v1")
    assert not is_enabled("networking.k8s.io", "v1beta1")
    assert not is_enabled("resource.k8s.io", "v1alpha3")


def test_the_nearest_wish_counts() -> None:
    is_enabled = runtime_config.parse("api/all=false,api/beta=true, apps/v1=true ,x.io/v1beta1=false,y.io/v1")
    assert not is_enabled("batch", "v1")
    assert is_enabled("apps", "v1")
    assert is_enabled("z.io", "v1beta1")
    assert not is_enabled("x.io", "v1beta1")
    assert is_enabled("y.io", "v1")
    assert not runtime_config.parse("v1=false")("", "v1")


@pytest.mark.parametrize("text", ["api/all=yes", "apps/v1=", "apps/v1=TRUE"])
def test_what_is_neither_true_nor_false_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="runtime-config"):
        runtime_config.parse(text)
