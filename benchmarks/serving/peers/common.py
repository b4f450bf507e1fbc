"""What the peers share: the program around them, the driver that keeps frames under way, and cleaning up."""

from __future__ import annotations

import ctypes
import os
import queue
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.serving.case import Case, Meter, Pixels, Score, descendants, frames

START_S = 120.0
"""Longest time until a peer serves."""
STALL_S = 30.0
"""Longest time for one frame."""
STOP_S = 20.0
"""Longest time until a peer has ended."""

Done = Callable[[int], None]
"""Called with the number of objects when a frame's results are joined."""
Submit = Callable[[int, int, Pixels, Done], None]
"""Starts on a frame: stream, which of its `window` places the frame takes, the frame."""


def main(run: Callable[[Case], Score]) -> None:
    """Run the peer on the case named on the command line; one line on stderr and status 1 when it cannot."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m benchmarks.serving.peers.NAME CASE.json")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    code = 1
    try:
        score = run(Case.load(sys.argv[1]))
        if not score.fps:
            raise RuntimeError("no frame was completed")
        score.print()
        code = 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    except Exception as error:
        print(" ".join(f"{type(error).__name__}: {error}".split())[:500], file=sys.stderr)
    finally:
        end(descendants(os.getpid())[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads of the runtimes may not hold up the end


def end(pids: Iterable[int]) -> None:
    """End these processes of ours, firmly after a second."""
    left = [pid for pid in pids if alive(pid)]
    for number, wait_s in ((signal.SIGTERM, 1.0), (signal.SIGKILL, STOP_S)):
        for pid in left:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + wait_s
        while (left := [pid for pid in left if alive(pid)]) and time.monotonic() < deadline:
            time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether the process runs; one that only waits to be reaped does not. Reaps our own children."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except OSError:  # not our child, or reaped
        pass
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def die_with_parent() -> None:
    """For ``Popen(preexec_fn=…)``: the new process ends when ours does, however that comes about."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


@contextmanager
def scratch() -> Iterator[Path]:
    """Give a folder for as long as it is needed; its path is short, since sockets may lie in it."""
    folder = Path(tempfile.mkdtemp(prefix="hamspeer", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def nodes_on(case: Case) -> dict[str, list[str]]:
    """Device → its nodes, in the group's order."""
    placed: dict[str, list[str]] = {}
    for node in case.spec().nodes:
        placed.setdefault(case.device(node), []).append(node)
    return placed


def cores(case: Case) -> set[int]:
    """All cores of the case's devices."""
    from hams_agents.devices import allowed_cores, parse

    return {core for text in case.devices.values() for core in parse(text).cores} or set(allowed_cores())


class Feed:
    """Plays the case's streams into `submit`, `window` frames under way in each, until the measured time is over."""

    def __init__(self, case: Case, submit: Submit) -> None:
        self._case = case
        self._submit = submit
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._stop = threading.Event()

    def fail(self, error: BaseException) -> None:
        """Give up: :meth:`run` raises `error`."""
        self._error = self._error or error
        self._stop.set()

    def run(self) -> Meter:
        """Measure."""
        self.meter = Meter(self._case)
        threads = [threading.Thread(target=self._play, args=(i,), daemon=True) for i in range(self._case.streams)]
        for thread in threads:
            thread.start()
        deadline = self.meter.end + 2 * STALL_S
        try:
            for thread in threads:
                while thread.is_alive() and self._error is None:
                    thread.join(0.2)
                    if time.perf_counter() > deadline:
                        raise TimeoutError("the streams did not end")
        finally:
            self._stop.set()
        if self._error is not None:
            raise self._error
        return self.meter

    def _play(self, stream: int) -> None:
        try:
            self._play_until_over(stream)
        except queue.Empty:
            self.fail(TimeoutError(f"a frame had no result within {STALL_S:g} s"))
        except BaseException as error:
            self.fail(error)

    def _play_until_over(self, stream: int) -> None:
        window = self._case.window
        places: queue.Queue[int] = queue.Queue()
        for place in range(window):
            places.put(place)
        source = frames(self._case.video)
        while not (self.meter.over or self._stop.is_set()):
            place = places.get(timeout=STALL_S)
            frame = next(source)
            captured = time.perf_counter()

            def done(objects: int, place: int = place, captured: float = captured) -> None:
                with self._lock:
                    self.meter.done(stream, captured, objects)
                places.put(place)

            self._submit(stream, place, frame, done)
        for _ in range(window):
            if self._stop.is_set():
                return
            places.get(timeout=STALL_S)
