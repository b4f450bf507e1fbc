"""The remark of `hams-ctl up` on options without effect."""

from __future__ import annotations

import pytest

from hams_services.ctl.actions.up import unused_options


@pytest.mark.parametrize(
    ("nats", "port", "host", "named"),
    [
        (None, 4333, "0.0.0.0", None),
        ("nats://box:4222", None, "127.0.0.1", None),
        ("nats://box:4222", 4333, "127.0.0.1", "--port"),
        ("nats://box:4222", 0, "0.0.0.0", "--port and --host"),
    ],
)
def test_options_of_an_own_broker_beside_another_one(nats: str | None, port: int | None, host: str, named: str) -> None:
    remark = unused_options(nats, port, host)
    if named is None:
        assert remark == ""
    else:
        assert remark.startswith(f"not used: {named}, because the broker at nats://box:4222 is used")


def test_its_password_is_not_shown() -> None:
    assert "hunter2" not in unused_options("nats://user:hunter2@box:4222", 1, "127.0.0.1")
