"""Tasks of other packages: their errors name the package, and a change of their code is detected.

An agent loads a package once, as every Python program does. When the package is installed again, the agent goes on with
what it loaded; :func:`changed` reports it.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, PackageNotFoundError, version
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

from hams_agents.faults import FAULTS, fault
from hams_agents.tasks.base import Affine, Detected, Outputs, Reads
from hams_shared.errors import HamsError, TaskError
from hams_shared.wire import codec

log = logging.getLogger("hams.agent")

T = TypeVar("T")

LOOK_S = 5.0
"""Between two looks at the files, s."""

Files = Mapping[str, tuple[int, int]]
"""By path: when it was changed, ns, and its size, bytes."""


@dataclass(frozen=True)
class _Package:
    """A package of tasks as it was when this process loaded it."""

    name: str
    """Of its top module."""
    distribution: str
    version: str
    files: Files


_lock = threading.Lock()
_packages: dict[str, _Package] = {}
"""By top module; bounded by what is installed."""


def guarded(task: Any, name: str) -> Any:
    """Return `task`, of the type called `name`, whose every error becomes a TaskError that names the place."""
    return (_Detection if callable(getattr(task, "detect", None)) else _Description)(task, name)


def loaded(point: EntryPoint) -> None:
    """Remember the package of `point`, which has been loaded, as it is now; the first time counts."""
    top = point.value.partition(":")[0].partition(".")[0]
    with _lock:
        if top not in _packages:
            distribution = point.dist.name if point.dist else ""
            _packages[top] = _Package(top, distribution, _version(distribution), _files(top))


def changed() -> tuple[str, ...]:
    """Report, for each package whose code differs from what this process has loaded, what changed and what to do."""
    with _lock:
        packages = list(_packages.values())
    return tuple(text for package in packages if (text := _change(package)))


class Changes:
    """Checks now and then whether a package has :func:`changed`, and logs it."""

    def __init__(self) -> None:
        self._looked = float("-inf")
        self._found: tuple[str, ...] = ()

    def check(self, now: float) -> tuple[str, ...]:
        """Return what has changed; `now` is monotonic, s. Files are looked at every `LOOK_S`."""
        if now - self._looked < LOOK_S:
            return self._found
        found, self._looked = changed(), now
        for text in set(found) - set(self._found):
            log.warning("%s", text)
        self._found = found
        return found


def _change(package: _Package) -> str:
    now = _version(package.distribution)
    what = ""
    if now != package.version:
        what = f"is version {now or 'none'} now, and {package.version or 'none'} was loaded"
    else:
        files = [Path(path).name for path, state in package.files.items() if _state(path) != state]
        if files:
            what = f"has changed since it was loaded ({', '.join(files[:3])})"
    return f"the task package {package.name} {what}: restart the agent to use it" if what else ""


def _version(distribution: str) -> str:
    try:
        return version(distribution) if distribution else ""
    except PackageNotFoundError:
        return ""


def _files(top: str) -> Files:
    modules = [m for n, m in list(sys.modules.items()) if n == top or n.startswith(f"{top}.")]
    paths = [path for m in modules if (path := getattr(m, "__file__", None))]
    return {path: state for path in paths if (state := _state(path)) is not None}


def _state(path: str) -> tuple[int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


class _Guarded:
    """Wraps a task: its errors become TaskErrors that name the package."""

    def __init__(self, task: Any, name: str) -> None:
        self._task = task
        self._name = name
        self._top = type(task).__module__.partition(".")[0]
        self._failures = 0

    def __getattr__(self, key: str) -> Any:
        if key.startswith("__") or key == "_task":
            raise AttributeError(key)
        return getattr(self._task, key)

    def _call(self, method: Callable[..., T], *args: Any) -> T:
        try:
            return method(*args)
        except HamsError:
            raise
        except FAULTS as error:
            self._failures += 1
            if self._failures & (self._failures - 1) == 0:  # 1, 2, 4, 8 …: each frame may fail
                log.exception("task %s failed (%d so far)", self._name, self._failures)
            raise TaskError(
                f"task {self._name} raised {fault(error, self._top)}", "the error is in the task's own package"
            ) from error

    def _wrong(self, what: str) -> TaskError:
        return TaskError(f"task {self._name} {what}", f"see the package {self._top}")


class _Detection(_Guarded):
    """A task that finds objects."""

    def detect(
        self, outputs: Outputs, to_frame: Sequence[Affine], frame_size: tuple[int, int] | None = None
    ) -> list[list[Detected]]:
        """See :class:`base.DetectionTask`."""
        found = self._call(self._task.detect, outputs, to_frame, frame_size)
        if not isinstance(found, list | tuple) or not all(isinstance(one, list | tuple) for one in found):
            raise self._wrong(f"gave {type(found).__name__} instead of a list of objects for each image")
        others = {type(one).__name__ for objects in found for one in objects if not isinstance(one, Detected)}
        if others:
            raise self._wrong(f"found {', '.join(sorted(others))} instead of Detected")
        if len(found) != len(to_frame):
            raise self._wrong(f"gave {len(found)} lists for {len(to_frame)} images")
        if not all(isfinite(number) for objects in found for one in objects for number in (*one.box, one.score)):
            raise self._wrong("found an object whose box or score is not a finite number")
        return [list(objects) for objects in found]


class _Description(_Guarded):
    """A task that describes each image."""

    def describe(
        self, outputs: Outputs, to_frame: Sequence[Affine], *filled: Sequence[tuple[int, int]]
    ) -> list[dict[str, Any]]:
        """See :class:`base.DescriptionTask`; a task with `maps` gets `filled`, too."""
        items = self._call(self._task.describe, outputs, to_frame, *filled)
        if not isinstance(items, list | tuple) or not all(isinstance(one, dict) for one in items):
            raise self._wrong(f"gave {type(items).__name__} instead of a list of a map for each image")
        if len(items) != len(to_frame):
            raise self._wrong(f"gave {len(items)} maps for {len(to_frame)} images")
        for one in items:
            for key, value in one.items():
                self._check(key, value)
        return list(items)

    def _check(self, key: object, value: object) -> None:
        """Raise TaskError unless the value can be encoded as a message."""
        if not isinstance(key, str):
            raise self._wrong(f"gave the key {key!r}: keys are texts")
        if key == "objects" and isinstance(value, list) and getattr(self._task, "parts", False):
            return  # the node's children need them as they are; the agent writes them for the message
        try:
            codec.pack(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise self._wrong(
                f"gave a {type(value).__name__} as {key}, which cannot travel ({error}): "
                "give None, bool, int, float, str, bytes, lists and dicts of them"
            ) from None


def reads_of(task: Any, outputs: Outputs) -> Reads | None:
    """Return what a task declares to read; None where it declares nothing. Raises TaskError."""
    reads = getattr(task, "reads", None)
    if not callable(reads):
        return None
    read: Reads = task._call(reads, outputs) if isinstance(task, _Guarded) else reads(outputs)
    return read
