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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving.case import Case, Meter, Pixels, Score, descendants, frames
from hams_agents.tasks.base import Detected
from hams_shared.group.spec import GroupSpec

sys.path.append(str(Path(__file__).parents[3] / "tests"))
from support.ports import free_port as free_port  # the tests' own

ROOT = Path(__file__).parents[3]
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
    signal.signal(signal.SIGALRM, _late)
    code = 1
    try:
        case = Case.load(sys.argv[1])
        signal.alarm(round(START_S + case.warmup_s + case.seconds + 2 * STALL_S))
        score = run(case)
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
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end(descendants(os.getpid())[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads of the runtimes may not hold up the end


def _late(*_: object) -> None:
    raise TimeoutError("the run did not end in time")


def environment() -> dict[str, str]:
    """What our processes need to find the benchmark and all packages of this interpreter."""
    path = [str(ROOT), *(one for one in sys.path if one and one != str(ROOT))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


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
    with suppress(OSError):  # not our child, or reaped
        os.waitpid(pid, os.WNOHANG)
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
        deadline = time.monotonic() + STOP_S
        while folder.exists() and time.monotonic() < deadline:  # a process that ends may write meanwhile
            shutil.rmtree(folder, ignore_errors=True)
            time.sleep(0.02)


def plain(value: Any) -> Any:
    """An answer in plain values, as HAMS sends it."""
    if isinstance(value, Detected):
        entry = {"box": [round(v, 2) for v in value.box], "score": round(value.score, 4), "label": value.label}
        return entry if value.points is None else {**entry, "points": np.round(value.points, 2).tolist()}
    if isinstance(value, dict) and "objects" in value:
        return {**value, "objects": plain(value["objects"])}
    return [plain(one) for one in value] if isinstance(value, list) else value


def nodes_on(case: Case) -> dict[str, list[str]]:
    """Device → its nodes, in the group's order."""
    placed: dict[str, list[str]] = {}
    for node in case.spec().nodes:
        placed.setdefault(case.device(node), []).append(node)
    return placed


Answer = tuple[Sequence[Any], Sequence[int]]
"""What a node said of a frame: an item per image, and which of its parent's objects each shows."""


def join(spec: GroupSpec, answers: Mapping[str, Answer]) -> list[dict[str, Any]]:
    """Put one frame's answers together: the root's objects, each with what its children say of it."""

    def entries(node: str) -> list[dict[str, Any]]:
        items, _ = answers[node]
        found = [one for item in items for one in (item if isinstance(item, list) else item.get("objects", ()))]
        joined = [{"object": one} for one in found]
        for child in spec.children(node):
            below = iter(entries(child))
            for item, source in zip(*answers[child], strict=True):
                count = len(item if isinstance(item, list) else item.get("objects", ()))
                joined[source][child] = {"item": item, "objects": [next(below) for _ in range(count)]}
        return joined

    return entries(spec.root)


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
