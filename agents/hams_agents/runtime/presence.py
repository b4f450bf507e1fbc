"""Whether the device is still there: a USB stick that is pulled out takes its file in /dev along.

An agent whose device is gone ends; its next life waits here until the file is back, before it opens the device. After
`LONGEST_S` it tries all the same: a device may come back under another name.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from contextlib import suppress
from pathlib import Path

from hams_agents.devices import DeviceSpec

log = logging.getLogger("hams.agent")

LOOK_S = 0.25
LONGEST_S = 60.0
"""Longest wait before the device is opened all the same, s."""
_FILES = (
    (r"(?:onnxruntime|tensorrt):(?:CUDA|TENSORRT):(\d+)", "/dev/nvidia{}"),
    (r"openvino:NPU", "/dev/accel/accel0"),
    (r"memryx:NPU(?::(\d+))?", "/dev/memx{}"),
)
"""Files of devices, by their names; those that this host lacks are not watched."""


def device_file(spec: DeviceSpec) -> str:
    """Return the file that is there while the device is; empty: none is known.

    CUDA_VISIBLE_DEVICES numbers GPUs anew, so that their files are not known then.
    """
    for pattern, file in _FILES:
        found = re.fullmatch(pattern, f"{spec.backend}:{spec.target}", re.IGNORECASE)
        if found is not None and not (file.startswith("/dev/nvidia") and "CUDA_VISIBLE_DEVICES" in os.environ):
            path = file.format((found.groups() or ("",))[0] or "0")
            return path if os.path.exists(path) else ""
    return ""


class Presence:
    """Looks for the device's file. One that was not there at the beginning is not looked for."""

    def __init__(self, file: str) -> None:
        self._file = file if file and os.path.exists(file) else ""
        self._missed = False

    @property
    def watched(self) -> bool:
        """Whether there is a file to look for."""
        return bool(self._file)

    def gone(self) -> str:
        """Return why the device is gone, when the file is missing for the second time in a row; empty: it is there."""
        before, missing = self._missed, self.missing
        self._missed = bool(missing)
        return missing if before else ""

    @property
    def missing(self) -> str:
        """Why the device is gone, by one look; empty: it is there."""
        return f"{self._file} disappeared" if self._file and not os.path.exists(self._file) else ""

    def note(self, folder: Path, device: str) -> None:
        """Have the agent's next life wait for the file. A full disk keeps no note: then it tries at once."""
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            _note(folder, device).write_text(self._file, encoding="utf-8")


async def until_there(folder: Path, device: str, stop: asyncio.Event, longest_s: float = LONGEST_S) -> None:
    """Wait while the device of the last life is gone, until `stop`, or for `longest_s` s."""
    note = _note(folder, device)
    file = _read(note)
    if not file:
        return
    if not _exists(file):
        log.warning("%s is gone: waiting for %s", device, file)
    with suppress(TimeoutError):
        async with asyncio.timeout(longest_s):
            while not _exists(file) and not stop.is_set():  # noqa: ASYNC110 (nothing tells that a file is there)
                await asyncio.sleep(LOOK_S)


def back(folder: Path, device: str) -> None:
    """The device was opened: the next life need not wait for it."""
    with suppress(OSError):
        _note(folder, device).unlink(missing_ok=True)


def _read(note: Path) -> str:
    try:
        return note.read_text(encoding="utf-8")
    except OSError:
        return ""


def _exists(file: str) -> bool:
    return os.path.exists(file)


def _note(folder: Path, device: str) -> Path:
    return folder / f"{device}.gone"
