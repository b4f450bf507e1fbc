"""A process that is ended while it loads leaves a note; its next life knows the network and the signal."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hams_agents.runtime.load_notes import ENDINGS, EarlierLife, EndedLoad, LoadNotes

DEVICE = "box.b.u"
LIFE = """
import os, sys
from pathlib import Path
from hams_agents.runtime.load_notes import LoadNotes
notes = LoadNotes(Path(sys.argv[1]), "box.b.u")
notes.earlier_life()
notes.begin(own_process=True)
if sys.argv[2] == "load":
    with notes.loading("abc", "light"):
        os.kill(os.getpid(), int(sys.argv[3]))
os.kill(os.getpid(), int(sys.argv[3]))
"""


def live(folder: Path, when: str, signal: int) -> None:
    """A process that is ended by a signal."""
    done = subprocess.run([sys.executable, "-c", LIFE, str(folder), when, str(signal)], check=False, timeout=60)
    assert done.returncode == -signal


@pytest.mark.parametrize(("signal", "name"), [(11, "SIGSEGV"), (6, "SIGABRT"), (7, "SIGBUS")])
def test_the_next_life_knows_what_ended_the_last(tmp_path: Path, signal: int, name: str) -> None:
    live(tmp_path, "load", signal)
    notes = LoadNotes(tmp_path, DEVICE)
    load = EndedLoad("abc", "light", f"loading light ended the process by {name}")
    assert notes.earlier_life() == EarlierLife((load,))
    assert notes.earlier_life() == EarlierLife((load,))  # until it is recorded
    notes.begin(own_process=False)
    live(tmp_path, "serve", signal)
    assert LoadNotes(tmp_path, DEVICE).earlier_life() == EarlierLife(crash=name)
    assert LoadNotes(tmp_path, "box.b.other").earlier_life() == EarlierLife()


def test_a_kill_counts_against_a_load_only_when_it_happens_again_and_again(tmp_path: Path) -> None:
    for life in range(1, ENDINGS + 1):
        note = {"digest": "abc", "model": "light", "life": "another", "endings": life - 1}
        (tmp_path / f"{DEVICE}.x.loading").write_text(json.dumps(note))
        loads = LoadNotes(tmp_path, DEVICE).earlier_life().loads
        assert bool(loads) == (life == ENDINGS)
    assert loads[0].reason.startswith("loading light ended the process 3 times without a trace: killed")


def test_the_count_goes_on_in_the_next_note_and_ends_with_a_load_that_succeeds(tmp_path: Path) -> None:
    live(tmp_path, "load", 9)
    notes = LoadNotes(tmp_path, DEVICE)
    assert notes.earlier_life() == EarlierLife()
    notes.begin(own_process=False)
    assert not list(tmp_path.glob("*.loading"))
    with notes.loading("abc", "light"):
        (note,) = tmp_path.glob("*.loading")
        assert json.loads(note.read_text())["endings"] == 1
    assert not note.exists()
    with notes.loading("abc", "light"):
        (note,) = tmp_path.glob("*.loading")
        assert json.loads(note.read_text())["endings"] == 0


@pytest.mark.parametrize("content", ["", "{", "[]", '{"digest": 1}', "\x00"])
def test_a_damaged_note_is_dropped(tmp_path: Path, content: str) -> None:
    note = tmp_path / f"{DEVICE}.x.loading"
    note.write_text(content)
    assert LoadNotes(tmp_path, DEVICE).earlier_life() == EarlierLife()
    assert not note.exists()


def test_a_load_that_fails_leaves_no_note_and_a_disk_that_is_full_is_no_obstacle(tmp_path: Path) -> None:
    notes = LoadNotes(tmp_path / "notes", DEVICE)
    with pytest.raises(ZeroDivisionError), notes.loading("abc", "light"):
        raise ZeroDivisionError
    assert not list((tmp_path / "notes").iterdir())
    (tmp_path / "file").touch()
    with LoadNotes(tmp_path / "file", DEVICE).loading("abc", "light"):
        pass
    with LoadNotes(None, DEVICE).loading("abc", "light"):
        pass
