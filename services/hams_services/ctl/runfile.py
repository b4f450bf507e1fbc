"""Where a running `hams-ctl up` can be found: one small file in the state folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hams_shared.errors import RefusedError
from hams_shared.process import state_folder


def _path() -> Path:
    return state_folder() / "up.json"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _read() -> tuple[int, str] | None:
    try:
        content = json.loads(_path().read_text(encoding="utf-8"))
        pid, url = int(content["pid"]), str(content["url"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (pid, url) if _alive(pid) else None


def running_url() -> str | None:
    """Broker URL of the `hams-ctl up` that runs on this machine, if one does."""
    found = _read()
    return found[1] if found else None


def refuse_second() -> None:
    """Raise RefusedError when another `hams-ctl up` uses this state folder."""
    found = _read()
    if found is not None and found[0] != os.getpid():
        raise RefusedError(
            f"hams-ctl up runs already (process {found[0]}, broker {found[1]})",
            "stop it first, or set HAMS_HOME to another folder for a second one",
        )


@contextmanager
def announced(url: str) -> Iterator[None]:
    """Let other hams-ctl find the broker at `url` while the block runs."""
    path = _path()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({"pid": os.getpid(), "url": url}), encoding="utf-8")
    temporary.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
