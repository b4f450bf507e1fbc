"""What `hams-ctl events` prints, and which options it refuses."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer

from hams_client import Event
from hams_services.ctl.actions.events import COLUMNS, as_map, cells, line, what, write_crop
from hams_services.ctl.options import duration_s, kinds_of
from hams_shared.errors import SourceError
from support.events import event

HEAD = [name for name, _ in COLUMNS]


def stored(*args: Any, **more: Any) -> Event:
    return Event(**event(*args, **more).model_dump(), sequence=7)


STAYS = stored("rule", 12, rule="stays", zones=("yard", "gate"), stream="front-door-2", number=12)


@pytest.mark.parametrize(("width", "columns"), [(80, 5), (84, 6), (120, 7), (160, 7), (20, 1)])
def test_columns_fit_the_console(width: int, columns: int) -> None:
    head, row = line(HEAD, width), line(cells(STAYS), width)
    assert head.split() == HEAD[:columns]
    assert max(len(head), len(row)) <= width
    assert all(head.index(name) == row.index(cell) for name, cell in zip(HEAD[:columns], cells(STAYS), strict=False))


def test_a_long_cell_is_cut() -> None:
    row = line(cells(stored("zone_dwell", 1, zone="behind-the-house", dwell_s=12.345, stream="a" * 40)), 80)
    assert "a" * 11 + "…  in behind-the-house…  #1" in row
    assert len(row) <= 80


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (stored("new", 1), "new"),
        (stored("end", 1, reason="lost"), "end lost"),
        (stored("zone_entered", 1, zone="yard"), "entered yard"),
        (stored("zone_left", 1, zone="yard", dwell_s=3.21), "left yard 3.2 s"),
        (stored("line_crossed", 1, line="gate", direction="in"), "crossed gate in"),
        (STAYS, "rule stays"),
    ],
)
def test_what_happened(found: Event, text: str) -> None:
    assert what(found) == text


def test_json_holds_everything() -> None:
    found = json.loads(json.dumps(as_map(stored("new", 3, crop=b"\xff\xd8"))))
    assert (found["sequence"], found["track"], found["id"]) == (7, 3, "s0.r1.3.new.0")
    assert base64.b64decode(found["crop"]) == b"\xff\xd8"
    assert as_map(STAYS)["crop"] is None


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1.5h", 5400), ("2d", 172_800), ("5", 5)])
def test_durations(text: str, seconds: float) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "-5m", "10w", "1e3", "nan", "1.2.3s", "٣m"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="10m"):
        duration_s(text)


def test_kinds() -> None:
    assert kinds_of("new, rule") == ("new", "rule")
    assert "zone_dwell" in kinds_of(None)
    with pytest.raises(typer.BadParameter, match=r"'old'; there are new, update"):
        kinds_of("new,old")


def test_crops_are_written_under_a_name_of_their_own(tmp_path: Path) -> None:
    first = stored("rule", 12, rule="stays", crop=b"\xff\xd8 one")
    other = stored("new", 12, crop=b"\xff\xd8 two")
    paths = [write_crop(tmp_path / "made", one) for one in (first, other, stored("new", 3), first)]
    assert paths[2] is None
    assert paths[0] == paths[3] != paths[1]
    assert paths[0] is not None
    assert paths[0].read_bytes() == first.crop
    assert {path.suffix for path in (tmp_path / "made").iterdir()} == {".jpg"}
    assert paths[0].name.startswith(f"{datetime.fromtimestamp(first.captured, UTC):%Y%m%dT%H%M%S}.")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match="cannot write"):
        write_crop(tmp_path / "file", stored("new", 1, crop=b"x"))
