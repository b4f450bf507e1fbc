"""Namespaces of the benchmark's own: its mounts and processes end with it, however it ends. Linux, as root.

Without root the benchmark runs as it is, and leaves out the kinds of faults that need mounts.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

MARK = "HAMS_CHAOS_INSIDE"
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_UNSHARE = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
OWN_MEMORY = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=64m hams-chaos /dev/shm && exec "$@"', "sh")
"""Before a command: it shares no memory with other processes, as one on another box."""
SCRATCH = "hams-chaos-"
_CGROUPS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def enter(name: str, arguments: Sequence[str]) -> None:
    """Return inside namespaces of mounts and processes, or at once where there can be none; else run there and exit.

    The process outside only passes signals on. When it is killed, the kernel ends all that is inside, mounts included.
    """
    if os.environ.get(MARK):
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        return
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    sweep()
    if not can_mount():
        return
    inner = subprocess.Popen(
        [*_UNSHARE, "--mount-proc", "--propagation", "private", sys.executable, "-m", "benchmarks", name, *arguments],
        env={**os.environ, MARK: str(os.getpid())},
        start_new_session=True,
        preexec_fn=lambda: _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),
    )

    def pass_on(number: int, frame: object) -> None:
        children = Path(f"/proc/{inner.pid}/task/{inner.pid}/children")
        with suppress(OSError, ValueError):
            os.kill(int(children.read_text().split()[0]), signal.SIGINT)

    signal.signal(signal.SIGINT, pass_on)
    signal.signal(signal.SIGTERM, pass_on)
    raise SystemExit(inner.wait())


def can_mount() -> bool:
    """Whether this process may make namespaces and mounts."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    tried = subprocess.run([*_UNSHARE, "true"], capture_output=True)
    return tried.returncode == 0


def is_inside() -> bool:
    """Whether mounts of this process are its own."""
    return bool(os.environ.get(MARK))


def small_disk(folder: Path, mib: int) -> None:
    """Mount a disk of `mib` MiB in memory at `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "hams-chaos", str(folder)], check=True)


def unmount(folder: Path) -> None:
    """Take a small disk away; what still uses it keeps it until it ends."""
    subprocess.run(["umount", "-l", str(folder)], capture_output=True)


class Cgroup:
    """A memory limit for processes, by cgroup v2 or v1; `path` is None where there is none to be had."""

    def __init__(self) -> None:
        self.path: Path | None = None
        for root in _CGROUPS:
            path = root / f"{SCRATCH}{os.getpid()}-{os.urandom(3).hex()}"
            with suppress(OSError):
                path.mkdir()
                if any((path / file).exists() for file in ("memory.max", "memory.limit_in_bytes")):
                    self.path = path
                    return
                path.rmdir()

    def add(self, pid: int) -> None:
        """Count the memory that `pid` takes from now on."""
        assert self.path is not None
        self.path.mkdir(exist_ok=True)  # another benchmark's start removes what is empty
        (self.path / "cgroup.procs").write_text(str(pid))

    def limit(self, more_mib: int | None) -> None:
        """Allow `more_mib` MiB beyond what is used now; None: any."""
        assert self.path is not None
        old = (self.path / "memory.limit_in_bytes").exists()
        file = self.path / ("memory.limit_in_bytes" if old else "memory.max")
        if more_mib is None:
            file.write_text("-1" if old else "max")
            return
        used = int((self.path / ("memory.usage_in_bytes" if old else "memory.current")).read_text())
        file.write_text(str(used + (more_mib << 20)))

    def close(self) -> None:
        """Remove it; its processes must have ended."""
        if self.path is not None:
            with suppress(OSError):
                self.path.rmdir()


def scratch() -> str:
    """Prefix of this run's folder for temporary files."""
    return f"{SCRATCH}{os.environ.get(MARK) or os.getpid()}-"


def sweep() -> None:
    """Remove the groups and folders that a killed benchmark left."""
    for folder in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*"):
        owner = folder.name.removeprefix(SCRATCH).split("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(folder, ignore_errors=True)
    for root in _CGROUPS:
        for left in root.glob(f"{SCRATCH}*"):
            with suppress(OSError):
                left.rmdir()  # refused while it has processes
