"""Notes of loads under way, in the cache: what a process that a driver ended was loading, its next life reads here.

A note is written before a network is loaded (or measured) and deleted after it. Python's fault handler writes the
signal that ends the process into a file beside them. So the next life knows the network and the signal, marks the pair,
and does not load it again. A process that ended without a signal of its own (kill -9, want of memory, power) counts
against a load only after `ENDINGS` times in a row.
"""

from __future__ import annotations

import faulthandler
import hashlib
import json
import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

log = logging.getLogger("hams.agent")

ENDINGS = 3
"""So many ends without a trace during the load of one network, and the load is at fault."""
_LIFE = uuid.uuid4().hex
"""Of this process; its number says nothing: in a container it is the same in every life."""
_SIGNALS = {
    "Segmentation fault": "SIGSEGV",
    "Aborted": "SIGABRT",
    "Bus error": "SIGBUS",
    "Illegal instruction": "SIGILL",
    "Floating-point exception": "SIGFPE",
    "Floating point exception": "SIGFPE",
}
"""What Python's fault handler writes, by signal."""
_TRACE = 4000
"""Characters of a trace that are logged."""


@dataclass(frozen=True)
class EndedLoad:
    """A load that ended the process."""

    digest: str
    model: str
    reason: str


@dataclass(frozen=True)
class EarlierLife:
    """How the agent's last process ended, where its driver ended it."""

    loads: tuple[EndedLoad, ...] = ()
    """What it was loading then."""
    crash: str = ""
    """The signal that ended it while it loaded nothing; empty: none did."""


class LoadNotes:
    """The notes of one device, in `folder`; None: none are kept."""

    def __init__(self, folder: Path | None, device: str) -> None:
        self._folder = folder
        self._device = device
        self._endings: dict[str, int] = {}
        """By digest: how often the process has ended without a trace while it was loaded; bounded by the networks."""
        self._read: list[Path] = []
        """Notes of the last process."""
        self._file: TextIO | None = None

    @contextmanager
    def loading(self, digest: str, model: str) -> Iterator[None]:
        """Keep a note while a network is loaded. A full disk keeps none."""
        note = self._note(digest)
        if note is None:
            yield
            return
        about = {"digest": digest, "model": model, "life": _LIFE, "endings": self._endings.get(digest, 0)}
        with suppress(OSError):
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(json.dumps(about), encoding="utf-8")
        try:
            yield
        finally:
            with suppress(OSError):
                note.unlink(missing_ok=True)
            self._endings.pop(digest, None)

    def earlier_life(self) -> EarlierLife:
        """Read what the last process of this device left; it stays until :meth:`begin`."""
        if self._folder is None:
            return EarlierLife()
        trace = self._trace()
        signal = next((name for text, name in _SIGNALS.items() if f"Fatal Python error: {text}" in trace), "")
        if trace:
            log.error("the last process of %s was ended by its driver:\n%s", self._device, trace[:_TRACE])
        loads = []
        found = False
        for path in sorted(self._folder.glob(f"{self._device}.*.loading")):
            about = _read(path)
            if about is None or about["life"] == _LIFE:
                continue
            found = True
            self._read.append(path)
            load = self._ended(about, signal)
            if load is not None:
                loads.append(load)
        return EarlierLife(tuple(loads), "" if found else signal)

    def _ended(self, about: dict[str, Any], signal: str) -> EndedLoad | None:
        digest, model = about["digest"], about["model"]
        if signal:
            return EndedLoad(digest, model, f"loading {model} ended the process by {signal}")
        self._endings[digest] = about["endings"] + 1
        if self._endings[digest] < ENDINGS:
            return None
        text = f"loading {model} ended the process {ENDINGS} times without a trace: killed, perhaps for want of memory"
        return EndedLoad(digest, model, text)

    def begin(self, *, own_process: bool) -> None:
        """Forget what the last process left; from now on a signal that ends this one, if its own, is written down."""
        if self._folder is None:
            return
        for path in self._read:
            with suppress(OSError):
                path.unlink()
        self._read.clear()
        if not own_process:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = self._crash_file().open("w", encoding="utf-8")
        except OSError as error:
            log.warning("a crash would leave no note: %s", error)
            return
        faulthandler.enable(self._file, all_threads=False)

    def end(self) -> None:
        """This process ends by itself: no note of a crash is left."""
        if self._file is None:
            return
        faulthandler.disable()
        self._file.close()
        self._file = None
        with suppress(OSError):
            self._crash_file().unlink(missing_ok=True)

    def _crash_file(self) -> Path:
        assert self._folder is not None
        return self._folder / f"{self._device}.crash"

    def _trace(self) -> str:
        try:
            return self._crash_file().read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def _note(self, digest: str) -> Path | None:
        if self._folder is None:
            return None
        short = hashlib.sha256(digest.encode()).hexdigest()[:16]
        return self._folder / f"{self._device}.{short}.loading"


NO_NOTES = LoadNotes(None, "")


def _read(path: Path) -> dict[str, Any] | None:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        about = None
    kinds = {"digest": str, "model": str, "life": str, "endings": int}
    if isinstance(about, dict) and all(isinstance(about.get(key), kind) for key, kind in kinds.items()):
        return about
    with suppress(OSError):  # cut off by a full disk
        path.unlink()
    return None
