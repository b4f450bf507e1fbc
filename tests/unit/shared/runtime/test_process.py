from __future__ import annotations

import pytest

from hams_shared.bus.nats.client import NatsBus
from hams_shared.errors import BadInputError
from hams_shared.runtime.process import kv_replicas


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
