"""How every HAMS process starts, logs, and ends.

A service's main is ``async def main(stop: asyncio.Event)``: it works until `stop` is set, then drains and
returns. :func:`run` gives it an event loop, turns SIGINT and SIGTERM into `stop`, and its errors into one
line and an exit code.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from hams_shared.errors import HamsError, as_hams_error
from hams_shared.runtime.credentials import VARIABLE

log = logging.getLogger(__name__)

Main = Callable[[asyncio.Event], Awaitable[None]]

DRAIN_S = 30.0
"""How long a main may take to return after the stop signal, s; then it is cancelled."""

CANCEL_S = 5.0
"""How long it may take to return once it was cancelled; then the process ends as it is."""

GARBAGE = (20_000, 20, 20)
"""New objects before the youngest generation is searched for cycles, and how often each before the next older one."""

SEARCH_S, SEARCH_SHARE = 60.0, 1e-3
"""All are searched after so long, if that takes no larger share of the time: few objects may hold much memory."""

CANCEL_AGAIN_S = 1.0
"""A task that has not ended by then is cancelled once more."""


def debug_wanted() -> bool:
    """Whether HAMS_DEBUG asks for tracebacks."""
    return os.environ.get("HAMS_DEBUG", "") not in ("", "0")


# Logging


class TextFormat(logging.Formatter):
    """One line per record: time, level, part, text; a traceback only when debugging."""

    def __init__(self, part: str, debug: bool) -> None:
        super().__init__()
        self._part = part
        self._debug = debug

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text."""
        time = datetime.fromtimestamp(record.created).astimezone().isoformat(sep=" ", timespec="milliseconds")
        text = " ".join(record.getMessage().splitlines())
        line = f"{time[11:23]} {record.levelname.lower():<7} {self._part} {text}"
        error = record.exc_info[1] if record.exc_info else None
        if error is None:
            return line
        if self._debug:
            return line + "\n" + "".join(traceback.format_exception(error)).rstrip()
        return f"{line}: {_brief(error)}"


FIELDS = ("device", "group", "stream", "node", "epoch")
"""Fields that a log call may have: ``log.info(text, extra={"group": …, "epoch": …})``; JSON lines carry it."""

_always: dict[str, str] = {}


def log_always(**fields: str) -> None:
    """Give these of FIELDS to every later record of this process: an agent's are all about its device."""
    _always.update(fields)


class JsonFormat(logging.Formatter):
    """One JSON object per line, for log collectors; with the whole traceback, which is still one line."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self._part = part

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "part": self._part,
            "logger": record.name,
            "text": record.getMessage(),
        }
        for name in FIELDS:
            value = getattr(record, name, _always.get(name))
            if value is not None:
                fields[name] = value
        if record.exc_info and record.exc_info[1]:
            fields["traceback"] = "".join(traceback.format_exception(record.exc_info[1]))
        return json.dumps(fields, ensure_ascii=False)


def _brief(error: BaseException) -> str:
    """Name an error and the innermost line it comes from."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
    return " ".join(f"{type(error).__name__}: {error}{where}".split())


def setup_logging(part: str, *, debug: bool | None = None) -> None:
    """Send all log records to stderr, one line each; replaces what was set up before.

    HAMS_LOG=json chooses JSON; HAMS_LOG_LEVEL (debug, info, warning, error) the level; `debug` means
    tracebacks.
    """
    debug = debug_wanted() if debug is None else debug
    _always.clear()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormat(part) if os.environ.get("HAMS_LOG") == "json" else TextFormat(part, debug))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    names = logging.getLevelNamesMapping()
    wanted = names.get(os.environ.get("HAMS_LOG_LEVEL", "").upper())
    root.setLevel(wanted if wanted is not None else logging.DEBUG if debug else logging.INFO)
    # These talk about every select() call and every connection attempt.
    for name in ("asyncio", "nats"):
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))


# Running


def run(main: Main, *, debug: bool | None = None, drain: float = DRAIN_S, tls: bool = False) -> int:
    """Run a process's async main to its end and return the exit code.

    The first SIGINT or SIGTERM sets the stop event, and `main` has `drain` seconds to return; a second one
    ends the process at once. An error becomes one line on stderr (a traceback as well with `debug` or
    HAMS_DEBUG). `tls`: `main` uses TLS whatever the credentials are.
    """
    debug = debug_wanted() if debug is None else debug
    _collect_rarely()
    try:
        with asyncio.Runner(loop_factory=_loop_factory(tls)) as runner:
            runner.run(_supervised(main, drain))
    except KeyboardInterrupt:
        # Before our handlers were in place, or where the event loop has none (Windows).
        return 130
    except BaseException as error:
        if isinstance(error, SystemExit):
            raise
        if debug:
            traceback.print_exc()
        return report(error)
    return 0


def _collect_rarely() -> None:
    """Look for cyclic garbage less often, and never among what was imported; `_search_cycles` sees to the rest.

    Messages are thousands of small objects a second, none of them in cycles; with Python's own thresholds the
    collector goes through all modules again and again, 3 % of what a group serves on two cores.
    """
    gc.freeze()
    gc.set_threshold(*GARBAGE)


def report(error: BaseException) -> int:
    """Write one line per distinct error to stderr and return the exit code of the first."""
    leaves = [as_hams_error(leaf) for leaf in leaves_of(error)]
    # What HAMS itself knows about explains more than what it does not.
    leaves.sort(key=lambda e: e.code == "internal")
    for line in list(dict.fromkeys(f"error: {' '.join(str(e).split())}" for e in leaves))[:5]:
        print(line, file=sys.stderr, flush=True)
    return leaves[0].exit_code


def leaves_of(error: BaseException) -> Iterator[BaseException]:
    """All errors inside nested exception groups (TaskGroup raises nothing else)."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves_of(inner)
    else:
        yield error


def _loop_factory(tls: bool) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where it is installed: it halves the cost of small messages.

    Not with credentials, hence TLS: uvloop 0.23's TLS stalls for good in both directions when much comes in over a slow
    link (tests/system/test_two_boxes.py, 50 ms; asyncio's own does not).
    """
    if tls or os.environ.get(VARIABLE):
        return None
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _supervised(main: Main, drain: float) -> None:
    """Run `main` with signals and the deadlines after the first of them."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    task = loop.create_task(_as_coroutine(main, stop), name="main")
    search = loop.create_task(_search_cycles(), name="search for cycles")
    timers: list[asyncio.TimerHandle] = []

    def cancel() -> None:
        log.error("did not end within %g s of the stop signal: cutting it short", drain)
        task.cancel()
        timers.append(loop.call_later(CANCEL_S, os._exit, 1))

    def on_signal(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()
        timers.append(loop.call_later(drain, cancel))

    with _signals(loop, on_signal):
        try:
            await asyncio.wait([task])
        finally:
            for timer in timers:
                timer.cancel()
            search.cancel()
    if task.cancelled():
        raise HamsError("ended only when cut short", "work in progress may be lost")
    task.result()


async def _search_cycles() -> None:
    """Free what only cycles hold, now and then: by number alone it would wait for hours."""
    pause = SEARCH_S
    while True:
        await asyncio.sleep(pause)
        begun = time.monotonic()
        gc.collect()
        pause = max(SEARCH_S, (time.monotonic() - begun) / SEARCH_SHARE)


async def ended(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel `tasks` and wait until they have ended.

    Again and again: up to Python 3.11 `asyncio.wait_for` loses a cancellation that comes in the moment in which what it
    waits for has come, too; and so do waits on a broker that is back just then.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_S)


async def happens(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, for so long at most."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


async def first_of(*works: Coroutine[Any, Any, Any]) -> None:
    """Run `works` side by side until one ends, then cancel the others. Raises what one of them raised."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await ended(tasks)
    for task in tasks:
        if not task.cancelled():
            task.result()


class Jobs:
    """Tasks that begin while a part runs, and end with it at the latest."""

    def __init__(self, owner: asyncio.TaskGroup) -> None:
        self._owner = owner
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` as a task."""
        task = self._owner.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def end(self, grace: float) -> None:
        """Give the tasks `grace` s to end, then cancel them."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        await ended(self._tasks)


async def _as_coroutine(main: Main, stop: asyncio.Event) -> None:
    await main(stop)


@contextmanager
def _signals(loop: asyncio.AbstractEventLoop, on_signal: Callable[[int], None]) -> Iterator[None]:
    """Call `on_signal` on the loop for SIGINT and SIGTERM."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    try:
        for number in numbers:
            loop.add_signal_handler(number, on_signal, int(number))
    except (NotImplementedError, ValueError, RuntimeError):
        # Windows, or not the main thread: Ctrl-C arrives as KeyboardInterrupt, if at all.
        yield
        return
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
