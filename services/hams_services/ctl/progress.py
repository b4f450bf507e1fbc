"""Progress of steps longer than two seconds, on stderr: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from hams_services.ctl.console import err

QUIET_S = 2.0
"""A step that ends within this time gets no line, s."""
LINE_S = 5.0
"""Least time between two lines of one step, s."""
TICK_S = 0.5


class Steps(Protocol):
    """Receives the progress of named steps, one after the other, from any thread."""

    def __call__(self, what: str, done: int, total: int, detail: str = "") -> None:
        """Step `what` has done `done` of `total`; total 0: unknown. `detail` follows the name and may change."""
        ...

    def end(self, what: str) -> None:
        """Step `what` is over, however much of it was done."""
        ...


PARTS = 100
"""Parts into which :class:`Creeping` divides each unit."""
HALF_S = 4.0
"""After this long half of a unit counts as done, s."""


class Creeping:
    """Progress of few long units: it advances inside a unit, ever slower, and never reaches its end. Pure."""

    def __init__(self) -> None:
        self._at: tuple[str, int] | None = None
        self._since = 0.0

    def parts(self, what: str, done: int, total: int, now: float) -> tuple[int, int]:
        """Return done and total in parts of a unit; `now` is monotonic, s."""
        if (what, done) != self._at:
            self._at, self._since = (what, done), now
        if not total or done >= total:
            return done * PARTS, total * PARTS
        waited = now - self._since
        return done * PARTS + int((PARTS - 1) * waited / (waited + HALF_S)), total * PARTS


class Bars:
    """One bar per step."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._newest: tuple[str, int] | None = None
        """Name and total of the newest step."""

    def __call__(self, what: str, done: int, total: int, detail: str = "") -> None:
        """See :class:`Steps`."""
        if what not in self._tasks:
            if self._newest is not None:  # steps follow one another
                before, of = self._newest
                self._progress.update(self._tasks[before], completed=of or 1, total=of or 1)
            self._tasks[what] = self._progress.add_task(escape(what), total=total or None)
        self._newest = (what, total)
        text = f"{what}: {detail}" if detail else what
        self._progress.update(self._tasks[what], description=escape(text), completed=done, total=total or None)

    def end(self, what: str) -> None:
        """See :class:`Steps`."""
        task = self._tasks.pop(what, None)
        if task is not None:
            self._progress.remove_task(task)
        if self._newest is not None and self._newest[0] == what:
            self._newest = None


@dataclass
class _Step:
    what: str
    began: float
    text: str = ""
    printed: float | None = None
    """When its last line was printed, s."""

    def line(self, now: float) -> str:
        return f"{self.what}{self.text} ({now - self.began:.0f} s)"


class Lines:
    """Decides which lines to print, and when: those of the newest step, once it takes longer than `QUIET_S`.

    Times are of one monotonic clock, s.
    """

    def __init__(self) -> None:
        self._step: _Step | None = None

    def report(self, what: str, done: int, total: int, detail: str, now: float) -> list[str]:
        """Take a report, and return the lines to print now."""
        lines = []
        if self._step is not None and self._step.what != what:
            lines += self.end(self._step.what, now)
        if self._step is None:
            if total and done >= total:
                return lines  # there was nothing to do
            self._step = _Step(what, now)
        part = f": {100 * done // total} %" if total else ""
        self._step.text = f"{part}{'' if not detail else f', {detail}' if part else f': {detail}'}"
        return lines + (self.end(what, now) if total and done >= total else self.due(now))

    def due(self, now: float) -> list[str]:
        """Return the lines that are due by time alone."""
        step = self._step
        if step is None or now - step.began < QUIET_S or (step.printed is not None and now - step.printed < LINE_S):
            return []
        step.printed = now
        return [step.line(now)]

    def end(self, what: str, now: float) -> list[str]:
        """Close step `what`; if it has printed lines, it gets a last one."""
        step = self._step
        if step is None or step.what != what:
            return []
        self._step = None
        return [f"{what}: done ({now - step.began:.0f} s)"] if step.printed is not None else []

    def close(self, now: float) -> list[str]:
        """Close the open step."""
        return self.end(self._step.what, now) if self._step is not None else []


class Printed:
    """Prints the lines of :class:`Lines`, from a thread."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lines = Lines()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="progress", daemon=True)

    def __call__(self, what: str, done: int, total: int, detail: str = "") -> None:
        """See :class:`Steps`."""
        with self._lock:
            self._print(self._lines.report(what, done, total, detail, time.monotonic()))

    def end(self, what: str) -> None:
        """See :class:`Steps`."""
        with self._lock:
            self._print(self._lines.end(what, time.monotonic()))

    def __enter__(self) -> Printed:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._over.set()
        self._thread.join(TICK_S * 4)
        if kind is None:
            self._print(self._lines.close(time.monotonic()))

    def _tick(self) -> None:
        while not self._over.wait(TICK_S):
            with self._lock:
                self._print(self._lines.due(time.monotonic()))

    def _print(self, lines: list[str]) -> None:
        for line in lines:
            self._console.print(line, markup=False, soft_wrap=True)


@contextmanager
def steps(*, bytes_: bool = False) -> Iterator[Steps]:
    """Show progress on stderr while the block runs. With `bytes_`, bars show sizes and speed.

    Leave the block before anything else prints for long.
    """
    if not err.is_terminal:
        with Printed(err) as printed:
            yield printed
        return
    more: tuple[ProgressColumn, ...] = (TaskProgressColumn(), TimeElapsedColumn())
    if bytes_:
        more = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=30), *more)
    with Progress(*columns, console=err, transient=True) as progress:
        yield Bars(progress)
