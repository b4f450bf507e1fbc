"""Requests that run in a child process: one request in, progress and one answer or one error out.

The parent names a function as ``"package.module:function"`` and passes plain values, so that parts do not import each
other. Whatever happens to the process (crash, hang, full memory) is a named error of that request, and the next request
starts a fresh process. The child is :mod:`hams_shared.runtime.child_main`.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

from hams_shared.errors import BadInputError, DeadlineError, HamsError, InternalError, ModelError, from_wire
from hams_shared.runtime.child_limits import UNLIMITED, Limits
from hams_shared.runtime.child_main import HEAD_BYTES, pack, unpack

MAX_ANSWER = 16 << 20
START_S = 60.0
"""How long a child process may take to start, s."""
POLL_S = 0.25
"""How often a waiting parent looks whether the budget has been shortened, s."""
_LOG_TAIL = 2000


@dataclass
class Bounds:
    """When the work of a job must end: it is cancelled, or its budget is spent. Any thread may call :meth:`cancel`."""

    until: float = math.inf
    """When the budget is spent, monotonic s."""
    _cancelled: threading.Event = field(default_factory=threading.Event)
    _on_cancel: set[Callable[[], None]] = field(default_factory=set)

    def cancel(self) -> None:
        """End the requests under way at once; no new one starts."""
        self._cancelled.set()
        for end in tuple(self._on_cancel):
            end()

    @property
    def cancelled(self) -> bool:
        """Whether the job is cancelled."""
        return self._cancelled.is_set()

    @property
    def spent(self) -> bool:
        """Whether the budget is spent."""
        return time.monotonic() >= self.until

    def check(self, what: str) -> None:
        """Raise BadInputError when the job is cancelled, DeadlineError when `what` has no time left."""
        if self.cancelled:
            raise BadInputError("cancelled")
        if self.spent:
            raise DeadlineError(f"{what}: the budget is spent", "a larger --budget")

    @contextmanager
    def ending(self, end: Callable[[], None]) -> Iterator[None]:
        """Have :meth:`cancel` call `end`, in the thread that cancels, while the context is open."""
        self._on_cancel.add(end)
        try:
            yield
        finally:
            self._on_cancel.discard(end)


class ChildProcess:
    """Runs requests in a child process. Blocking; one thread at a time.

    The first request starts the process, and so does the first one after it has ended. Without a `folder` the child
    runs where its parent does. On Linux the kernel kills the child when the thread that started it ends, so that no
    child outlives its parent.
    """

    def __init__(
        self,
        folder: Path | None = None,
        limits: Limits = UNLIMITED,
        bounds: Bounds | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        blame: type[HamsError] = InternalError,
        max_answer: int = MAX_ANSWER,
    ) -> None:
        """Prepare requests; `blame` is the error for a crash, and for exceptions that are no HamsError."""
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self.folder = (folder or Path.cwd()).resolve()
        self.limits = limits
        self.bounds = bounds or Bounds()
        self.restarts = -1
        self.confined = False
        self._environment = environment
        self._blame = blame
        self._max_answer = max_answer
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._log: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Process id, None while no process runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def run(
        self,
        function: str,
        arguments: Mapping[str, Any],
        *,
        what: str = "",
        timeout: float | None = None,
        progress: Callable[..., None] | None = None,
    ) -> Any:
        """Call `function` (``"module:name"``) in the child and return its result; `what` names the request in errors.

        `progress` gets what the function passes to its own parameter `progress`.

        Raises:
            HamsError: the function's own; of the class `blame`: the process crashed, or exceeded a limit.
            BadInputError: the job is cancelled.
            DeadlineError: the request takes longer than `timeout` s, or the budget is spent; the process is ended.
        """
        what, timeout = what or function.partition(":")[2], self.limits.wall_s if timeout is None else timeout
        self.bounds.check(what)
        channel = self._channel()
        try:
            with self.bounds.ending(self._wake):
                channel.settimeout(timeout)
                channel.sendall(pack({"function": function, "arguments": dict(arguments)}))
                answer = self._answer(time.monotonic() + timeout, progress)
        except TimeoutError:
            self.close(kill=True)
            self.bounds.check(what)
            text = f"{what} took longer than {timeout:g} s and was ended"
            raise DeadlineError(text, "give it more time, or less to do") from None
        except (OSError, EOFError):
            raise self._ended(what) from None
        except BaseException:  # an interrupted answer is of no use to the next request
            self.close(kill=True)
            raise
        if error := answer.get("error"):
            raise from_wire(error)
        return answer["result"]

    def close(self, kill: bool = False) -> None:
        """End the process, and with it every process that it started."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._log is not None:
            self._log.close()
            self._log = None
        if self._process is None:
            return
        if not kill:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(2.0)  # it ends when its socket closes
        if self._process.poll() is None:
            kill_group(self._process.pid)
            self._process.wait(10.0)

    def _channel(self) -> socket.socket:
        """Return the socket of the process, which is started if none runs."""
        if self.pid is None:
            self._start()
        assert self._socket is not None
        return self._socket

    def _start(self) -> None:
        self.close()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 closed with the process
        ours, theirs = socket.socketpair()
        with theirs:
            settings = {
                "folder": str(self.folder),
                "limits": self.limits.to_json(),
                "blame": self._blame.code,
                "parent": os.getpid(),
            }
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hams_shared.runtime.child_main", str(theirs.fileno()), json.dumps(settings)],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                cwd=self.folder,
                env=self._environment,
                start_new_session=True,
            )
        self._socket = ours
        self.restarts += 1
        try:
            with self.bounds.ending(self._wake):
                self.confined = bool(self._receive(time.monotonic() + START_S)["confined"])
        except (OSError, EOFError):
            printed = self._tail()
            self.close(kill=True)
            self.bounds.check("a child process")
            raise InternalError(f"a child process does not start: {printed or 'it prints nothing'}") from None

    def _wake(self) -> None:
        """End the wait for an answer; another thread calls this."""
        channel = self._socket
        if channel is not None:
            with suppress(OSError):
                channel.shutdown(socket.SHUT_RDWR)

    def _answer(self, deadline: float, progress: Callable[..., None] | None) -> dict[str, Any]:
        while "progress" in (message := self._receive(deadline)):
            if progress is not None:
                progress(*message["progress"])
        return message

    def _receive(self, deadline: float) -> dict[str, Any]:
        length = int.from_bytes(self._exactly(HEAD_BYTES, deadline), "big")
        if length > self._max_answer:
            raise InternalError(f"the answer of a child process has {length} bytes, more than {self._max_answer}")
        return unpack(self._exactly(length, deadline))

    def _exactly(self, count: int, deadline: float) -> bytes:
        """Read `count` bytes. Raises TimeoutError: the deadline has passed, or the budget is spent."""
        assert self._socket is not None
        found = bytearray()
        while len(found) < count:
            left = min(deadline, self.bounds.until) - time.monotonic()
            if left <= 0 or self.bounds.cancelled:
                raise TimeoutError
            if not select.select([self._socket], [], [], min(left, POLL_S))[0]:
                continue
            part = self._socket.recv(min(count - len(found), 1 << 20))
            if not part:
                raise EOFError
            found += part
        return bytes(found)

    def _ended(self, what: str) -> HamsError:
        """Return the error that names why the process ended by itself. Raises BadInputError: the job is cancelled."""
        assert self._process is not None
        if self.bounds.cancelled:
            self.close(kill=True)
            self.bounds.check(what)
        try:
            code = self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            code = 0
        tail = self._tail()
        self.close(kill=True)
        foreign = "the file is damaged, or made to do so" if issubclass(self._blame, ModelError) else ""
        match -code:
            case signal.SIGXCPU:
                why, hint = f"used more than {self.limits.cpu_s} s of CPU time", "a larger limit, or less to do"
            case signal.SIGKILL:
                why, hint = "was killed, as the system does when memory runs out", "make memory free"
            case signal.SIGXFSZ:
                why, hint = f"wrote a file of more than {self.limits.file_mib} MiB", "a larger limit"
            case number if number > 0:
                why, hint = f"crashed ({describe_exit(code)})", foreign
            case _:
                why, hint = f"ended ({describe_exit(code)})", foreign
        return self._blame(f"{what}: the process that worked on it {why}{f': {tail}' if tail else ''}", hint)

    def _tail(self) -> str:
        """Return the last line that the process printed."""
        if self._log is None:
            return ""
        end = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, end - _LOG_TAIL))
        lines = self._log.read().decode(errors="replace").split("\n")
        return " ".join(next((line for line in reversed(lines) if line.strip()), "").split())[:300]


_SECRET = re.compile(r"CREDENTIAL|TOKEN|SECRET|PASSW|_KEY|_URL$")
"""Variables that a child which reads foreign files has no use for, by their names."""


def sandboxed(folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a child that reads foreign files: no secrets, temporary files go to `folder`, and
    PyTorch unpickles nothing."""
    return {
        **{name: value for name, value in environment.items() if not _SECRET.search(name.upper())},
        "TMPDIR": str(folder),
        "HOME": str(folder),
        "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",
    }


async def run_in_child(
    function: str, arguments: Mapping[str, Any], *, what: str, timeout: float, limits: Limits = UNLIMITED
) -> Any:
    """Run one request in a child process of its own; cancelling the caller ends it at once.

    Raises as :meth:`ChildProcess.run`.
    """
    bounds = Bounds()

    def work() -> Any:
        with ChildProcess(limits=limits, bounds=bounds) as child:
            return child.run(function, arguments, what=what, timeout=timeout)

    try:
        return await asyncio.to_thread(work)
    finally:
        bounds.cancel()


def kill_group(pid: int) -> None:
    """Kill a process that leads a process group, and every process that it started."""
    with suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGTERM)


def describe_exit(code: int) -> str:
    """Return what an exit status means."""
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"
