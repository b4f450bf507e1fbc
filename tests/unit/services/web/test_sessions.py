"""Who may do what on the page, and how long a login lasts."""

from __future__ import annotations

import pytest

from hams_services.web.sessions import IDLE_S, LONGEST_S, Sessions, may, right_of, same
from hams_shared.errors import CredentialsError, OverloadedError


@pytest.mark.parametrize(
    ("user", "role", "rights"),
    [
        ("dashboard", "viewer", {"none", "view"}),
        ("app", "app", {"none", "view", "send"}),
        ("admin", "admin", {"none", "view", "send", "change"}),
    ],
)
def test_a_role_has_its_rights_and_those_before(user: str, role: str, rights: set[str]) -> None:
    name, right = right_of(user)
    assert name == role
    assert {need for need in ("none", "view", "send", "change") if may(right, need)} == rights  # type: ignore[arg-type]


@pytest.mark.parametrize("user", ["scheduler", "pipeline", "optimizer", "agent-box1", "leaf-box1", "", "Admin"])
def test_credentials_of_parts_are_no_login(user: str) -> None:
    with pytest.raises(CredentialsError, match="part of HAMS"):
        Sessions().begin("i", "t", user, 0.0)


def test_a_session_lasts_while_it_is_used() -> None:
    sessions = Sessions()
    sessions.begin("i", "t", "admin", 0.0)
    for now in (IDLE_S - 1, 2 * IDLE_S - 2):
        assert sessions.find("i", now) is not None
    assert sessions.find("i", 3 * IDLE_S) is None
    assert sessions.expire(3 * IDLE_S) == ["i"]
    assert len(sessions) == 0


def test_a_session_ends_after_its_longest_time_however_it_is_used() -> None:
    sessions = Sessions()
    sessions.begin("i", "t", "app", 0.0)
    now = 0.0
    while now + IDLE_S / 2 < LONGEST_S:
        now += IDLE_S / 2
        assert sessions.find("i", now) is not None
    assert sessions.find("i", LONGEST_S) is None


def test_sessions_are_bounded_and_an_ended_one_makes_room() -> None:
    sessions = Sessions(most=2)
    for id in "ab":
        sessions.begin(id, "t", "dashboard", 0.0)
    with pytest.raises(OverloadedError):
        sessions.begin("c", "t", "dashboard", 0.0)
    sessions.end("a")
    sessions.end("never there")
    sessions.begin("c", "t", "dashboard", 0.0)
    assert sessions.find("a", 0.0) is None


def test_no_secret_is_in_the_text_of_a_session() -> None:
    assert "secret" not in repr(Sessions().begin("secret-id", "secret-token", "admin", 0.0))


def test_equal_secrets() -> None:
    assert same("a", "a")
    assert not same("", "a")
    assert not same("ä", "a")
