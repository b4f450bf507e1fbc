"""Files of sinks go when they are too old, with their lines in the list, and no others."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from hams_services.ctl.commands.sink import kept_s
from hams_services.sinks import retention
from hams_services.sinks.crops import CropFolder
from hams_services.sinks.retention import KeptList, keep_clean
from support.wait import until

NOW = 1_700_000_000.0


def listed(folder: Path, *entries: dict[str, Any] | str) -> KeptList:
    """A list of these lines; `at` is when its file was written."""
    kept = KeptList(folder / "clips.jsonl")
    for entry in entries:
        if isinstance(entry, str):
            kept.append(entry.encode() + b"\n")
            continue
        at = entry.pop("at", None)
        for name in filter(None, (entry.get("file"), entry.get("crop"))):
            if at is not None and Path(str(name)).name == name:
                (folder / name).write_bytes(b"x")
                os.utime(folder / name, (at, at))
        kept.append(json.dumps(entry).encode() + b"\n")
    return kept


def left(folder: Path) -> tuple[set[str], list[str | None]]:
    lines = (folder / "clips.jsonl").read_text().splitlines()
    return {path.name for path in folder.iterdir()} - {"clips.jsonl"}, [json.loads(line)["file"] for line in lines]


def test_what_is_too_old_goes_with_its_crop_and_its_line(tmp_path: Path) -> None:
    kept = listed(
        tmp_path,
        {"file": None},
        {"file": "old.mp4", "crop": "old-best.jpg", "at": NOW - 10},
        {"file": "gone.mp4"},
        {"file": "new.mp4", "at": NOW + 10},
        {"file": None},
    )
    (tmp_path / "mine.mp4").write_bytes(b"x")
    os.utime(tmp_path / "mine.mp4", (NOW - 99, NOW - 99))
    assert kept.forget(NOW) == 2
    assert left(tmp_path) == ({"new.mp4", "mine.mp4"}, ["new.mp4", None])
    assert kept.forget(NOW) == 0


def test_a_file_of_a_younger_line_stays(tmp_path: Path) -> None:
    kept = listed(
        tmp_path,
        {"file": "clip.mp4", "crop": "a.jpg", "at": NOW - 10},
        {"file": "clip.mp4", "crop": "b.jpg", "at": NOW + 10},
    )
    assert kept.forget(NOW) == 0  # the clip was written on
    assert left(tmp_path)[1] == ["clip.mp4", "clip.mp4"]


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", ".."])
def test_names_that_lead_out_are_no_files_of_the_list(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"x")
    os.utime(tmp_path / "secret", (0, 0))
    listed(folder, {"file": name}).forget(NOW)
    assert (tmp_path / "secret").exists()


def test_lines_that_cannot_be_read_stay(tmp_path: Path) -> None:
    kept = listed(tmp_path, "{torn", "[]", '{"file": 1}', {"file": "old.mp4", "at": NOW - 10})
    assert kept.forget(NOW) == 1
    assert "torn" in (tmp_path / "clips.jsonl").read_text()


def test_no_list_is_no_error(tmp_path: Path) -> None:
    assert KeptList(tmp_path / "none.jsonl").forget(NOW) == 0


async def test_a_sink_looks_at_once_also_at_lists_of_earlier_runs(tmp_path: Path) -> None:
    (tmp_path / "s0").mkdir()
    (tmp_path / "s0" / "1-0-face.jpg").write_bytes(b"x")
    os.utime(tmp_path / "s0" / "1-0-face.jpg", (NOW, NOW))
    (tmp_path / "s0" / "crops.jsonl").write_text('{"file": "1-0-face.jpg"}\n')
    looking = asyncio.create_task(keep_clean(CropFolder(tmp_path, frozenset(), 0.0).lists, 30 * 86_400.0))
    await until(lambda: not (tmp_path / "s0" / "1-0-face.jpg").exists())
    looking.cancel()
    await keep_clean(lambda: pytest.fail("nothing is to be deleted"), None)
    assert retention.EVERY_S == 3600.0


def test_how_long_as_it_is_typed() -> None:
    assert (kept_s("30d"), kept_s("12h"), kept_s("forever")) == (30 * 86_400.0, 43_200.0, None)
