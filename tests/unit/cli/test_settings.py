from __future__ import annotations

from pathlib import Path

import click
import pytest

from kybern.cli import settings


def test_settings_are_read_back_as_they_were_saved(tmp_path: Path) -> None:
    cluster = settings.Settings(data_dir=str(tmp_path), node_name="n", node_ip="192.0.2.7", sysctls_before={"a.b": "1"})
    cluster.save()
    assert settings.load(str(tmp_path)) == cluster


def test_without_a_cluster_the_user_is_told_how_to_start_one(tmp_path: Path) -> None:
    assert settings.load(str(tmp_path)) is None
    with pytest.raises(click.ClickException, match="kybern up"):
        settings.require(str(tmp_path))
