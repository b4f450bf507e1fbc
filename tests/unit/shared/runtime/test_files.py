"""Files that are replaced in one step, and locks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hams_shared.locks import lock
from hams_shared.runtime.files import replaced, write


def test_a_file_is_replaced_at_the_end_of_the_block(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with replaced(path, 0o640) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_keeps_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write(path, b"old")
    with pytest.raises(ValueError, match="no"), replaced(path) as file:
        file.write(b"half")
        raise ValueError("no")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_another_process_cannot_take_a_lock_until_the_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    other = f"from hams_shared.locks import lock; raise SystemExit(lock(open({str(path)!r})))"
    with path.open("wb") as file:
        assert lock(file)
        assert subprocess.run([sys.executable, "-c", other], check=False).returncode == 0
    assert subprocess.run([sys.executable, "-c", other], check=False).returncode == 1
