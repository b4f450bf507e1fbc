"""Logs that other processes append to stay bounded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from hams_shared.runtime.log_files import rotate


def test_a_small_log_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "part.log"
    assert not rotate(path, limit=10)
    path.write_bytes(b"0123456789")
    assert not rotate(path, limit=10)
    assert [p.name for p in tmp_path.iterdir()] == ["part.log"]


def test_the_newest_ends_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "part.log"
    for number in range(6):
        path.write_bytes(b"x" * 30 + b"end %d" % number)
        assert rotate(path, limit=10, kept=3)
        assert path.read_bytes() == b""
    kept = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert kept == {
        "part.log": b"",
        "part.log.1": b"xxxxxend 5",
        "part.log.2": b"xxxxxend 4",
        "part.log.3": b"xxxxxend 3",
    }


def test_a_process_that_appends_goes_on_at_the_new_end(tmp_path: Path) -> None:
    path = tmp_path / "part.log"
    writes = "import sys\nfor line in sys.stdin: print(line, end='', flush=True); print('done', file=sys.stderr)"
    with path.open("ab") as out:
        child = subprocess.Popen(
            [sys.executable, "-c", writes], stdin=subprocess.PIPE, stdout=out, stderr=subprocess.PIPE, text=True
        )
    assert child.stdin is not None
    assert child.stderr is not None
    for number in range(5):
        child.stdin.write(f"{number}" * 20 + "\n")
        child.stdin.flush()
        assert child.stderr.readline() == "done\n"
        rotate(path, limit=10)
    child.stdin.close()
    assert child.wait(60) == 0
    child.stderr.close()
    assert path.read_bytes() == b""
    assert path.with_name("part.log.1").read_bytes() == b"4" * 9 + b"\n"


def test_without_room_it_is_emptied_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "part.log"
    path.with_name("part.log.1").mkdir()  # nothing can be written there
    path.write_bytes(b"x" * 100)
    assert rotate(path, limit=10, kept=1)
    assert path.read_bytes() == b""
