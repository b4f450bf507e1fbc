"""Child processes: started, watched, restarted with back-off, and stopped in order.

When to restart is decided purely (:class:`RestartPolicy`); the rest is the shell around it. A child gets its
own session, so that Ctrl-C in the terminal reaches only the parent, which then stops its children in the
right order; and on Linux the kernel kills a child whose parent died without a word (kill -9).
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

from hams_shared.errors import DeadlineError, HamsError, InternalError
from hams_shared.runtime.backoff import Backoff
from hams_shared.runtime.child_process import describe_exit, kill_group
from hams_shared.runtime.lifecycle import ended, happens
from hams_shared.runtime.log_files import LOOK_S, rotate

log = logging.getLogger(__name__)

ABANDON_S = 1.0
"""How long an abandoned process may take to be gone after SIGKILL, s."""
KILL_WAIT_S = 5.0
"""How long a process may take to be gone after SIGKILL (the kernel may have to finish its I/O)."""

_TIED = (
    "import ctypes,os,signal,sys\n"
    "try: ctypes.CDLL(None).prctl(1, signal.SIGKILL)\n"
    "except Exception: pass\n"
    "os.getppid() == int(sys.argv[1]) or os._exit(1)\n"
    "try: os.execvp(sys.argv[2], sys.argv[2:])\n"
    "except OSError as e: sys.stderr.write(f'{sys.argv[2]}: {e.strerror}\\n'); os._exit(127)\n"
)
"""Run by the child before its program: PR_SET_PDEATHSIG survives exec. Not a preexec_fn, which may deadlock
in a process with threads. The parent may be gone before prctl is called, hence the check."""


@dataclass
class RestartPolicy:
    """When to start a process again that ended by itself. Pure: `now` is any monotonic clock, s."""

    first: float = 0.25
    """Pause before the first restart, s; it doubles with each further one."""
    longest: float = 10.0
    """Longest pause, s."""
    stable: float = 30.0
    """A process that ran this long is healthy again: its next exit counts as the first, s."""
    limit: int = 10
    """More exits than this within `window` seconds: give up."""
    window: float = 300.0
    _exits: deque[float] = field(default_factory=deque, repr=False)
    _row: int = field(default=0, repr=False)
    _restart_at: float | None = field(default=None, repr=False)

    def record_exit(self, now: float) -> float | None:
        """Take an exit at `now`; return the pause before the restart, s, or None to give up."""
        while self._exits and now - self._exits[0] > self.window:
            self._exits.popleft()
        self._exits.append(now)
        if len(self._exits) > self.limit:
            return None
        if self._restart_at is not None and now - self._restart_at >= self.stable:
            self._row = 0
        self._row += 1
        pause = Backoff(self.first, self.longest).pause(self._row)
        self._restart_at = now + pause
        return pause


@dataclass(frozen=True)
class ChildSpec:
    """A process to run."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    """Added to this process's own."""
    cwd: Path | None = None
    log: Path | None = None
    """Standard output and error are appended here, and kept small (see :mod:`.log_files`); None: inherited."""
    stop_timeout: float = 10.0
    """From SIGTERM to SIGKILL, s."""
    policy: RestartPolicy | None = field(default_factory=RestartPolicy)
    """None: a process that ends is not started again."""


@dataclass(frozen=True)
class ChildEvent:
    """An event of a child process."""

    name: str
    kind: Literal["started", "exited", "restarting", "gave-up", "stopped", "killed"]
    pid: int = 0
    code: int | None = None
    """Exit status; negative: the signal that ended it."""
    delay: float = 0.0
    """Pause before the restart, s."""

    def __str__(self) -> str:
        why = "" if self.code is None else f" ({describe_exit(self.code)})"
        wait = f" in {self.delay:.2g} s" if self.kind == "restarting" else ""
        return f"{self.name}: {self.kind}{why}{wait}"


def log_event(event: ChildEvent) -> None:
    """Write `event` to the log."""
    level = {"gave-up": logging.ERROR, "exited": logging.WARNING, "killed": logging.WARNING}
    log.log(level.get(event.kind, logging.INFO), "%s", event)


class Child:
    """One supervised process, across its restarts."""

    def __init__(self, spec: ChildSpec, on_event: Callable[[ChildEvent], None]) -> None:
        self.spec = spec
        self.ended = asyncio.Event()
        """Set when it runs no longer and will not be started again."""
        self.code: int | None = None
        """Last exit status."""
        self.restarts = 0
        self._on_event = on_event
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._renewing = False
        # A stop must not pass by a process that is just being started.
        self._changing = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Process id, None while it is not running."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    @property
    def failed(self) -> bool:
        """Whether it ended without having been asked to."""
        return self.ended.is_set() and not self._stopping.is_set()

    async def launch(self) -> None:
        """Start the process. Raises InternalError when the operating system cannot."""
        spec = self.spec
        argv = spec.argv
        if shutil.which(argv[0]) is None:
            raise InternalError(f"cannot start {spec.name}: there is no program {argv[0]}")
        if sys.platform == "linux":
            argv = (sys.executable, "-ISc", _TIED, str(os.getpid()), *argv)
        with ExitStack() as files:
            output = None
            try:
                if spec.log is not None:
                    spec.log.parent.mkdir(parents=True, exist_ok=True)
                    output = files.enter_context(spec.log.open("ab"))
                self._process = await asyncio.create_subprocess_exec(
                    *argv,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env={**os.environ, **spec.env},
                    cwd=spec.cwd,
                    start_new_session=True,
                )
            except OSError as error:
                raise InternalError(f"cannot start {spec.name}: {error}") from None
        self._on_event(ChildEvent(spec.name, "started", self._process.pid))

    async def keep(self) -> None:
        """Wait for the process, start it again by its policy, until stopped or given up."""
        try:
            while self._process is not None:
                self.code = await self._process.wait()
                if self._stopping.is_set():
                    return
                if not self._renewing:
                    self._on_event(ChildEvent(self.spec.name, "exited", self._process.pid, self.code))
                    if not await self._pause():
                        return
                while not await self._relaunched():
                    if not await self._pause():
                        return
        finally:
            self.ended.set()

    async def _pause(self) -> bool:
        """Wait before a restart, by the policy; return False when none is to follow: it is given up, or stopped."""
        name, policy = self.spec.name, self.spec.policy
        pause = policy.record_exit(asyncio.get_running_loop().time()) if policy is not None else None
        if pause is None:
            self._on_event(ChildEvent(name, "gave-up", code=self.code))
            return False
        self._on_event(ChildEvent(name, "restarting", code=self.code, delay=pause))
        await happens(self._stopping, pause)
        return not self._stopping.is_set()

    async def _relaunched(self) -> bool:
        """Start the process again, unless it was stopped meanwhile; return False when that fails."""
        async with self._changing:
            self._renewing = False
            if self._stopping.is_set():
                return True
            self.restarts += 1
            try:
                await self.launch()
            except HamsError as error:
                log.error("%s", error)
                return False
        return True

    async def stop(self) -> None:
        """Ask it to end, kill it after its stop_timeout; idempotent. Raises DeadlineError when even that
        fails."""
        self._stopping.set()
        async with self._changing:
            await self._end()

    async def renew(self) -> None:
        """End the process as :meth:`stop` does, and have it started again at once; that counts as no failure.

        One that is between two starts anyway is left alone.
        """
        async with self._changing:
            if self.pid is not None and not self._stopping.is_set():
                self._renewing = True
                await self._end()

    async def _end(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        kind: Literal["stopped", "killed"] = "stopped"
        with suppress(ProcessLookupError):
            process.terminate()
        if not await _gone(process, self.spec.stop_timeout):
            kind = "killed"
            kill_group(process.pid)
            if not await _gone(process, KILL_WAIT_S):
                raise DeadlineError(f"{self.spec.name} (process {process.pid}) does not end, not even by SIGKILL")
        self._on_event(ChildEvent(self.spec.name, kind, process.pid, process.returncode))

    def hold(self, keeper: asyncio.Task[None]) -> None:
        """Remember the task that runs :meth:`keep`."""
        self._keeper = keeper

    async def abandon(self) -> None:
        """Kill it, and wait no longer than that takes."""
        self._stopping.set()
        if self._process is not None and self._process.returncode is None:
            kill_group(self._process.pid)
            await _gone(self._process, ABANDON_S)
        if self._keeper is not None:
            self._keeper.cancel()


async def _gone(process: asyncio.subprocess.Process, timeout: float) -> bool:
    try:
        async with asyncio.timeout(timeout):
            await process.wait()
    except TimeoutError:
        return False
    return True


class Supervisor:
    """Runs child processes; leaving the context stops them, the one started last first."""

    def __init__(self, on_event: Callable[[ChildEvent], None] = log_event) -> None:
        self.children: dict[str, Child] = {}
        self._on_event = on_event
        self._group = asyncio.TaskGroup()
        self._changed = asyncio.Event()
        self._tidying: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        self._tidying = self._group.create_task(self._keep_logs_small(), name="keep logs small")
        return self

    async def __aexit__(self, *exc: object) -> None:
        try:
            await self.stop()
        finally:
            if self._tidying is not None:
                await ended([self._tidying])
            # Keepers end with their processes; those that a failed or cancelled stop has left would be waited
            # for.
            for child in self.children.values():
                if child.pid is not None:
                    await child.abandon()
            await self._group.__aexit__(None, None, None)

    async def start(self, spec: ChildSpec) -> Child:
        """Start a process and keep it running.

        Raises:
            InternalError: the operating system cannot start it, or the name is taken.
        """
        old = self.children.get(spec.name)
        if old is not None and not old.ended.is_set():
            raise InternalError(f"a child called {spec.name} runs already")
        child = Child(spec, self._event)
        await child.launch()
        self.children.pop(spec.name, None)
        self.children[spec.name] = child
        child.hold(self._group.create_task(child.keep(), name=f"keep {spec.name}"))
        return child

    async def stop(self, *names: str) -> None:
        """Stop the named children, or all, one after another, the one started last first."""
        errors = []
        for name, child in reversed(list(self.children.items())):
            if not names or name in names:
                try:
                    await child.stop()
                except HamsError as error:
                    errors.append(error)
        if errors:
            raise errors[0]

    async def stop_together(self, *names: str) -> None:
        """Stop the named children all at once."""
        found = await asyncio.gather(*(self.stop(name) for name in names), return_exceptions=True)
        for error in found:
            if error is not None:
                raise error

    async def failure(self) -> Child:
        """Wait until a child has ended by itself and is not started again; return it."""
        while True:
            self._changed.clear()
            for child in self.children.values():
                if child.failed:
                    return child
            await self._changed.wait()

    async def _keep_logs_small(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            for path in {child.spec.log for child in self.children.values() if child.spec.log is not None}:
                try:
                    await asyncio.to_thread(rotate, path)
                except OSError as error:
                    log.warning("the log %s cannot be kept small: %s", path, error.strerror)

    def _event(self, event: ChildEvent) -> None:
        self._changed.set()
        try:
            self._on_event(event)
        except Exception:
            log.exception("event callback failed")
