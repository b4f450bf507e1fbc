from __future__ import annotations

from pathlib import Path

import pytest

from hams_shared.bus.nats.client import NatsBus
from hams_shared.errors import BadInputError
from hams_shared.runtime.process import in_container, kv_replicas, mounted_hint


@pytest.mark.parametrize(("text", "replicas"), [("", 1), ("1", 1), ("3", 3), (" 5 ", 5)])
def test_replicas_of_buckets_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, text: str, replicas: int
) -> None:
    monkeypatch.setenv("HAMS_KV_REPLICAS", text)
    assert kv_replicas() == replicas
    assert NatsBus("nats://127.0.0.1:4222").replicas == replicas


@pytest.mark.parametrize("text", ["2", "three", "0", "-1"])
def test_numbers_that_jetstream_does_not_know(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("HAMS_KV_REPLICAS", text)
    with pytest.raises(BadInputError, match="not 1, 3 or 5"):
        kv_replicas()


def test_a_container_is_told_by_the_file_that_docker_or_podman_leaves(tmp_path: Path) -> None:
    assert not in_container(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.containerenv").touch()
    assert in_container(tmp_path)


def test_only_compose_mounts_folders(tmp_path: Path) -> None:
    assert mounted_hint(tmp_path / "groups") == ""
    assert "groups, models and media" in mounted_hint(tmp_path)
