"""Notifications by apprise, received by a web server of ours; sentences and templates."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from hams_client import Event
from hams_services.sinks.courier import LaterError, RefusedForGoodError
from hams_services.sinks.notify import Notifier
from hams_services.sinks.sentences import check_template, fill, sentence
from hams_shared.errors import BadInputError
from hams_shared.wire import codec
from hams_shared.wire.messages.events import EventKind
from support.events import event
from support.hook_server import hook_server


def made(kind: EventKind, **more: Any) -> Event:
    one = event(kind, 3, **more).model_copy(update={"group": "yard", "age_s": 12.4})
    return Event(**one.model_dump(), sequence=1)


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (made("new"), "yard: person appeared"),
        (made("update"), "yard: person is there since 12 s"),
        (made("end", reason="lost"), "yard: person is gone after 12 s"),
        (made("zone_entered", zone="entrance"), "yard: person entered entrance"),
        (made("zone_left", zone="entrance", dwell_s=8.2), "yard: person left entrance after 8 s"),
        (made("zone_dwell", zone="entrance", dwell_s=10.0), "yard: person stayed 10 s in entrance"),
        (made("line_crossed", line="gate", direction="in"), "yard: person crossed gate (in)"),
        (made("rule", rule="stays", zones=("entrance",)), "yard: stays: person in entrance, 12 s"),
        (made("rule", rule="stays"), "yard: stays: person, 12 s"),
    ],
)
def test_what_happened_in_a_sentence(one: Event, text: str) -> None:
    assert sentence(one) == text


def test_templates() -> None:
    one = made("zone_dwell", zone="entrance", dwell_s=10.0)
    assert fill("{text} ({stream}, #{track}, {score})", one) == "yard: person stayed 10 s in entrance (s0, #3, 0.90)"
    assert check_template("{group} {not a field}") == "{group} {not a field}"
    for wrong in ("{wrong}", "{}", "{__class__}"):
        with pytest.raises(BadInputError, match="there are text, group"):
            check_template(wrong)


def test_a_notification_arrives(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    body = codec.pack_json(made("zone_dwell", zone="entrance", dwell_s=10.0, crop=b"\xff\xd8").model_dump())
    with hook_server() as hooks:
        address = hooks.url.replace("http://", "json://") + "/t0ken"
        notifier = Notifier(address, "{group}")
        notifier.deliver("id", body)
        (posted,) = hooks.posted
        assert (posted["title"], posted["message"]) == ("yard", "yard: person stayed 10 s in entrance")
        hooks.statuses = [500]
        with pytest.raises(LaterError):
            notifier.deliver("id", body)
        with pytest.raises(RefusedForGoodError):
            notifier.deliver("id", b"{}")
    assert notifier.where == "json://"
    assert "t0ken" not in caplog.text
