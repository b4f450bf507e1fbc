"""Events posted to a web address: at least once, in order, with pauses while it does not take them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hams_client import Event
from hams_services.ctl.actions.events import wanted
from hams_services.ctl.options import kinds_of
from hams_services.sinks.webhook import LastSequence, Webhook
from hams_shared.errors import BadInputError, SourceError
from hams_shared.runtime.backoff import Backoff
from support.events import event
from support.hook_server import hook_server

QUICK = Backoff(first=0.001, longest=0.01)
STAYS = Event(**event("rule", 3, rule="stays", crop=b"\xff\xd8").model_dump(), sequence=7)
NEW = Event(**event("new", 4).model_dump(), sequence=8)


async def test_an_event_is_posted_as_json() -> None:
    with hook_server() as hooks:
        hook = Webhook(hooks.url, QUICK)
        await hook.send(STAYS)
        await hook.send(NEW)
    first, second = hooks.posted
    assert (first["kind"], first["rule"], first["track"], first["sequence"], first["crop"]) == (
        "rule",
        "stays",
        3,
        7,
        "/9g=",
    )
    assert (second["kind"], second["crop"]) == ("new", None)
    assert (hook.sent, hook.refused) == (2, 0)


@pytest.mark.parametrize("status", [0, 408, 425, 429, 500, 502, 503])
async def test_what_fails_for_now_is_sent_again(status: int) -> None:
    with hook_server() as hooks:
        hooks.statuses = [status, status, status]
        hook = Webhook(hooks.url, QUICK)
        await hook.send(STAYS)
        await hook.send(NEW)
    assert [one["track"] for one in hooks.posted] == [3, 3, 3, 3, 4]
    assert len({one["id"] for one in hooks.posted}) == 2
    assert (hook.sent, hook.refused) == (2, 0)


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 404, 410])
async def test_what_is_refused_for_good_does_not_stop_the_others(status: int) -> None:
    with hook_server() as hooks:
        hooks.statuses = [status]
        hook = Webhook(hooks.url, QUICK)
        await hook.send(STAYS)
        await hook.send(NEW)
    assert [one["track"] for one in hooks.posted] == [3, 4]
    assert (hook.sent, hook.refused) == (1, 1)


async def test_nobody_at_the_address_is_waited_for() -> None:
    with hook_server() as hooks:
        url = hooks.url
    hook = Webhook(url, QUICK)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await hook.send(NEW)
    assert hook.sent == 0


@pytest.mark.parametrize("url", ["", "example.org/hook", "file:///etc/passwd", "ftp://example.org", "http://"])
def test_what_is_no_web_address(url: str) -> None:
    with pytest.raises(BadInputError, match=r"https://example\.org"):
        Webhook(url)


def test_the_last_sequence_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "last"
    assert LastSequence(path).read() is None
    LastSequence(path).write(17)
    assert LastSequence(path).read() == 17
    LastSequence(None).write(17)
    assert LastSequence(None).read() is None
    path.write_text("what?")
    with pytest.raises(SourceError, match="delete it"):
        LastSequence(path).read()
    with pytest.raises(SourceError, match="cannot write"):
        LastSequence(tmp_path / "none" / "last").write(1)


def test_which_events_are_wanted() -> None:
    assert wanted(STAYS, kinds_of(None), [])
    assert wanted(STAYS, ("rule",), ["stays", "other"])
    assert not wanted(STAYS, ("rule",), ["other"])
    assert not wanted(STAYS, ("new",), [])
    assert not wanted(NEW, ("rule",), ["stays"])
