"""A child process answers requests; its end has a name; it never outlives a cancelled request or its parent."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hams_shared.errors import BadInputError, DeadlineError, InternalError, ModelError
from hams_shared.runtime.child_limits import UNLIMITED, Limits
from hams_shared.runtime.child_process import Bounds, ChildProcess, run_in_child
from support.wait import PATIENCE, until, until_sync

WORK = """
import os, signal, subprocess, sys, time
from hams_shared.errors import ModelError

def echo(value, progress):
    progress("half", 1, 2)
    return value

def hang(progress):
    grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    progress(os.getpid(), grandchild.pid)
    time.sleep(600)

def refuse():
    raise ModelError("not this one", "another")

def fail():
    raise ValueError("seven")

def memory():
    raise RuntimeError("std::bad_alloc")

def die(number):
    print("last words", flush=True)
    os.kill(os.getpid(), number)

def leave():
    os._exit(3)

def burn():
    while True:
        pass

def write(path):
    with open(path, "wb") as file:
        file.write(bytes(4 << 20))

def many(count):
    return "x" * count
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work.py").write_text(WORK)
    return tmp_path


@pytest.fixture
def child(folder: Path) -> Iterator[ChildProcess]:
    with ChildProcess(folder) as process:
        yield process


def gone(pid: int) -> bool:
    """Whether a process has ended, if only as a zombie that its new parent has not yet collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_one_process_answers_with_progress_and_named_errors(child: ChildProcess) -> None:
    reported: list[tuple[object, ...]] = []
    value = {"a": [1, 2.5, None, "\udcff"], "b": b"\x00"}
    assert child.run("work:echo", {"value": value}, progress=lambda *some: reported.append(some)) == value
    assert reported == [("half", 1, 2)]
    with pytest.raises(ModelError, match="not this one") as caught:
        child.run("work:refuse", {})
    assert caught.value.hint == "another"
    with pytest.raises(InternalError, match="ValueError: seven"):
        child.run("work:fail", {})
    with pytest.raises(InternalError, match="no attribute 'sing'"):
        child.run("work:sing", {})
    assert child.restarts == 0


def test_what_foreign_files_do_to_a_tool_is_the_files_fault(folder: Path) -> None:
    with ChildProcess(folder, blame=ModelError) as child:
        with pytest.raises(ModelError, match="ValueError: seven"):
            child.run("work:fail", {})
        with pytest.raises(ModelError, match="needs more memory than a job may have"):
            child.run("work:memory", {})


@pytest.mark.parametrize(
    ("function", "arguments", "text"),
    [
        ("die", {"number": 11}, r"die: the process that worked on it crashed \(SIGSEGV\): last words"),
        ("die", {"number": 9}, "was killed, as the system does when memory runs out: last words"),
        ("leave", {}, r"ended \(exit code 3\)"),
        ("burn", {}, "used more than 3 s of CPU time"),
    ],
)
def test_an_end_has_a_name_and_the_next_request_a_fresh_process(
    folder: Path, function: str, arguments: dict[str, int], text: str
) -> None:
    with ChildProcess(folder, Limits(memory_mib=0, cpu_s=3, confine=False, nice=0)) as child:
        with pytest.raises(InternalError, match=text):
            child.run(f"work:{function}", arguments)
        assert child.run("work:echo", {"value": 1}) == 1
        assert child.restarts == 1


def test_a_file_larger_than_the_limit(folder: Path) -> None:
    limits = Limits(memory_mib=0, file_mib=1, confine=False)
    with (
        ChildProcess(folder, limits) as child,
        pytest.raises(InternalError, match="OSError.*File too large"),  # Python ignores SIGXFSZ
    ):
        child.run("work:write", {"path": str(folder / "large")})


def test_an_answer_larger_than_the_limit(folder: Path) -> None:
    with ChildProcess(folder, max_answer=1000) as child:
        with pytest.raises(InternalError, match="more than 1000"):
            child.run("work:many", {"count": 2000})
        assert child.run("work:many", {"count": 10}) == "x" * 10


def test_a_deadline_ends_the_process(child: ChildProcess) -> None:
    child.run("work:echo", {"value": 1})
    pid = child.pid
    assert pid is not None
    with pytest.raises(DeadlineError, match=r"resting took longer than 0\.2 s"):
        child.run("work:hang", {}, what="resting", timeout=0.2)
    assert gone(pid)


def test_cancelling_ends_the_process_group_and_nothing_new_starts(folder: Path) -> None:
    bounds, pids = Bounds(), list[int]()
    with ChildProcess(folder, bounds=bounds) as child:

        def cancel(*some: int) -> None:
            pids.extend(some)
            threading.Timer(0.0, bounds.cancel).start()

        with pytest.raises(BadInputError, match="cancelled"):
            child.run("work:hang", {}, timeout=60.0, progress=cancel)
        until_sync(lambda: all(gone(pid) for pid in pids))
        with pytest.raises(BadInputError, match="cancelled"):
            child.run("work:echo", {"value": 1})
        assert child.pid is None
    assert len(pids) == 2


def test_a_budget_that_is_shortened_meanwhile(folder: Path) -> None:
    bounds = Bounds()
    with ChildProcess(folder, bounds=bounds) as child, pytest.raises(DeadlineError, match="hang: the budget is spent"):
        child.run("work:hang", {}, timeout=60.0, progress=lambda *_: setattr(bounds, "until", time.monotonic()))


async def test_a_cancelled_task_ends_its_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert await run_in_child("work:echo", {"value": 3}, what="echo", timeout=60) == 3
    ready = folder / "pid"
    (folder / "more.py").write_text(
        f"import os, pathlib, time\ndef hang():\n pathlib.Path({str(ready)!r}).write_text(str(os.getpid()))\n"
        " time.sleep(600)\n"
    )
    task = asyncio.create_task(run_in_child("more:hang", {}, what="hang", timeout=300))
    await until(lambda: ready.exists() and ready.read_text())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    pid = int(ready.read_text())
    await until(lambda: gone(pid))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal")
def test_no_orphan_when_the_parent_dies(folder: Path) -> None:
    code = """
        import os, pathlib, signal, sys
        from hams_shared.runtime.child_process import ChildProcess

        def told(*pids):
            print(pids[0], flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

        ChildProcess(pathlib.Path(sys.argv[1])).run("work:hang", {}, progress=told)
    """
    argv = [sys.executable, "-c", textwrap.dedent(code), str(folder)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60 * PATIENCE, check=False)
    assert done.returncode == -9, done.stderr
    until_sync(lambda: gone(int(done.stdout)))


def test_limits_of_zero_change_nothing(folder: Path) -> None:
    import resource

    (folder / "limits.py").write_text(
        "import os, resource\ndef get():\n return [resource.getrlimit(n) for n in (resource.RLIMIT_AS, "
        "resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE)] + [os.nice(0)]\n"
    )
    with ChildProcess(folder, UNLIMITED) as child:
        *found, nice = child.run("limits:get", {})
    names = (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE)
    assert found == [list(resource.getrlimit(name)) for name in names]
    assert nice == os.nice(0)
