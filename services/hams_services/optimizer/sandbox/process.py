"""A job's process as the optimizer sees it: asked one thing at a time, under limits, and its end has a name.

Nothing a file does to the tools that read it reaches further: a crash, a hang or a full memory ends that process, and
the request ends with an error that says so. The next request starts a fresh one.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Self

from hams_services.optimizer.sandbox.bounds import POLL_S, Bounds
from hams_services.optimizer.sandbox.limits import Limits
from hams_shared.errors import DeadlineError, InternalError, ModelError, from_wire

MAX_REPLY = 16 << 20
START_S = 60.0
_LOG_TAIL = 2000


class JobProcess:
    """Runs requests in a child process whose folder is `folder`. Blocking; one thread at a time.

    It is started by the first request, and again after it has ended.
    """

    def __init__(self, folder: Path, limits: Limits | None = None, bounds: Bounds | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder.resolve()
        self.limits = limits or Limits()
        self.bounds = bounds or Bounds()
        self.restarts = -1
        self.confined = False
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._log: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Process id, None while none runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def call(self, do: str, *, timeout: float | None = None, **arguments: Any) -> dict[str, Any]:
        """Ask for `do` and return the answer.

        Raises:
            HamsError: the job's own.
            BadInputError: it was cancelled.
            ModelError: the process crashed, or went beyond a limit.
            DeadlineError: it took longer than `timeout` s, or the budget is spent; it is ended.
        """
        limit = self.limits.wall_s if timeout is None else timeout
        self.bounds.check(do)
        if self.pid is None:
            self._start()
        assert self._socket is not None
        data = json.dumps({"do": do, "arguments": arguments}).encode()
        try:
            self._socket.sendall(len(data).to_bytes(4, "big") + data)
            reply = self._receive(limit)
        except TimeoutError:
            self.close(kill=True)
            self.bounds.check(do)
            raise DeadlineError(
                f"{do} took longer than {limit:g} s and was ended", "give it more time, or a smaller network"
            ) from None
        except (OSError, EOFError):
            raise self._ended(do) from None
        answer: dict[str, Any] = json.loads(reply)
        if "error" in answer:
            raise from_wire(answer["error"])
        result: dict[str, Any] = answer["result"]
        return result

    def close(self, kill: bool = False) -> None:
        """End the process."""
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
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10.0)

    def _start(self) -> None:
        self.close()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 closed with the process
        ours, theirs = socket.socketpair()
        with theirs:
            arguments = json.dumps({"folder": str(self.folder), "limits": self.limits.to_json()})
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hams_services.optimizer.sandbox.child", str(theirs.fileno()), arguments],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                cwd=self.folder,
                env=environment(self.folder),
                start_new_session=True,
            )
        self._socket = ours
        self.restarts += 1
        try:
            hello = json.loads(self._receive(START_S))
        except (OSError, EOFError):
            said = self._tail()
            self.close(kill=True)
            self.bounds.check("a job's process")
            raise InternalError(f"a job's process does not start: {said or 'it says nothing'}") from None
        self.confined = bool(hello["confined"])

    def _receive(self, timeout: float) -> bytes:
        deadline = time.monotonic() + timeout
        length = int.from_bytes(self._exactly(4, deadline), "big")
        if length > MAX_REPLY:
            raise InternalError(f"a job's answer has {length} bytes, more than {MAX_REPLY}")
        return self._exactly(length, deadline)

    def _exactly(self, count: int, deadline: float) -> bytes:
        """Read so many bytes. Raises TimeoutError: the deadline is over, the budget is spent, or it was cancelled."""
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

    def _ended(self, do: str) -> ModelError:
        """Say why the process ended by itself."""
        assert self._process is not None
        try:
            code = self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            code = 0
        tail = self._tail()
        self.close(kill=True)
        match -code:
            case signal.SIGXCPU:
                why, hint = f"used more than {self.limits.cpu_s} s of CPU time", "a larger limit, or a smaller network"
            case signal.SIGKILL:
                why, hint = "was killed, as the system does when memory runs out", "make memory free"
            case signal.SIGXFSZ:
                why, hint = f"wrote a file of more than {self.limits.file_mib} MiB", "a larger limit"
            case number if number > 0:
                why, hint = f"crashed ({signal.Signals(number).name})", "the file is damaged, or made to do so"
            case _:
                why, hint = f"ended (exit code {code})", "the file is damaged, or made to do so"
        return ModelError(f"{do}: the process that worked on it {why}{f': {tail}' if tail else ''}", hint)

    def _tail(self) -> str:
        """Return the end of what the process printed, in one line."""
        if self._log is None:
            return ""
        end = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, end - _LOG_TAIL))
        lines = self._log.read().decode(errors="replace").split("\n")
        return " ".join(next((line for line in reversed(lines) if line.strip()), "").split())[:300]


def environment(folder: Path) -> dict[str, str]:
    """What a job's process knows of ours: temporary files go to its folder, and nothing is unpickled by PyTorch."""
    return {
        **os.environ,
        "TMPDIR": str(folder),
        "HOME": str(folder),
        "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",
    }
