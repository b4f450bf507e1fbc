"""What `hams-ctl history` prints, and which options it refuses."""

from __future__ import annotations

import json

import pytest
import typer

from hams_client import HistoryEntry
from hams_services.ctl.actions.history import Printer, lines
from hams_services.ctl.options import history_kinds_of


def entry(sequence: int = 1, **more: str) -> HistoryEntry:
    about = {"kind": "device-lost", "text": "device box1.openvino.gpu0 is lost", "reason": "no heartbeat for 1.5 s"}
    return HistoryEntry(id=f"a.1.{sequence}", at=1e9, by="scheduler", sequence=sequence, **{**about, **more})


@pytest.mark.parametrize("width", [80, 120, 40])
def test_a_sentence_is_wrapped_under_itself(width: int) -> None:
    found = lines(entry(text="word " * 30), 1, width)
    assert max(map(len, found)) <= max(width, 60)
    column = found[0].index("word")
    assert {line[:column].strip() for line in found[1:]} == {""}
    assert " ".join(line[column:] for line in found).startswith("word word")


def test_equal_entries_in_a_row_become_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    printer = Printer(json=False, follow=False)
    for one in (entry(1), entry(2), entry(3), entry(4, reason="it was stopped"), entry(5)):
        printer.take(one)
    printer.end()
    texts = [line.split("device-lost")[1].strip() for line in capsys.readouterr().out.splitlines()]
    lost = "device box1.openvino.gpu0 is lost"
    silent = f"{lost} (no heartbeat for 1.5 s)"
    assert texts == [f"{silent} — 3 times", f"{lost} (it was stopped)", silent]


def test_followed_entries_are_printed_as_they_come(capsys: pytest.CaptureFixture[str]) -> None:
    printer = Printer(json=False, follow=True)
    printer.take(entry(1))
    assert "is lost" in capsys.readouterr().out
    printer.take(entry(2))
    assert "is lost" in capsys.readouterr().out


def test_json_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    printer = Printer(json=True, follow=False)
    printer.take(entry(7))
    found = json.loads(capsys.readouterr().out)
    assert (found["sequence"], found["kind"], found["at"], found["reason"]) == (
        7,
        "device-lost",
        1e9,
        "no heartbeat for 1.5 s",
    )


def test_kinds() -> None:
    assert history_kinds_of("plan, device-lost") == ("plan", "device-lost")
    with pytest.raises(typer.BadParameter, match="there is no kind of entry 'plans'; there are leader, group-deployed"):
        history_kinds_of("plans")
