from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from hams_shared.errors import HamsError, InternalError
from hams_shared.runtime.supervise import ChildEvent, ChildSpec, RestartPolicy, Supervisor
from support.wait import until, until_sync

SLEEP = "import time; time.sleep(60)"
STUBBORN = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(60)"


def child(name: str, code: str = SLEEP, **more: object) -> ChildSpec:
    return ChildSpec(name=name, argv=(sys.executable, "-c", code), **more)  # type: ignore[arg-type]


def alive(pid: int) -> bool:
    try:
        # A zombie nobody has waited for yet is not alive.
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


async def test_children_are_stopped_the_last_one_first() -> None:
    events: list[ChildEvent] = []
    async with Supervisor(events.append) as supervisor:
        for name in ("a", "b", "c"):
            await supervisor.start(child(name))
    assert [(e.name, e.kind) for e in events] == [
        ("a", "started"),
        ("b", "started"),
        ("c", "started"),
        ("c", "stopped"),
        ("b", "stopped"),
        ("a", "stopped"),
    ]


async def test_children_that_wait_for_each_other_are_stopped_together(tmp_path: Path) -> None:
    events: list[ChildEvent] = []
    wait = (
        "import pathlib,signal,sys,time\n"
        "def end(*_):\n"
        "    pathlib.Path(sys.argv[1]).touch()\n"
        "    while not pathlib.Path(sys.argv[2]).exists(): time.sleep(0.01)\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end); print('on', flush=True); time.sleep(60)"
    )
    async with Supervisor(events.append) as supervisor:
        for name, other in (("a", "b"), ("b", "a")):
            log = tmp_path / f"{name}.log"
            argv = (sys.executable, "-c", wait, str(tmp_path / name), str(tmp_path / other))
            await supervisor.start(ChildSpec(name=name, argv=argv, log=log))
            await until(lambda log=log: "on" in log.read_text())  # type: ignore[misc]
        await supervisor.start(child("c"))
        await supervisor.stop_together("a", "b")
        assert sorted(e.name for e in events if e.kind == "stopped") == ["a", "b"]
        assert not [e for e in events if e.kind == "killed"]


async def test_an_unexpected_end_is_followed_by_a_restart() -> None:
    events: list[ChildEvent] = []
    async with Supervisor(events.append) as supervisor:
        kept = await supervisor.start(child("a", policy=RestartPolicy(first=0.01)))
        first = kept.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: kept.pid not in (first, None))
        assert kept.restarts == 1
    assert [e.kind for e in events] == ["started", "exited", "restarting", "started", "stopped"]
    assert str(events[1]) == "a: exited (SIGKILL)"


async def test_restarts_are_bounded() -> None:
    events: list[ChildEvent] = []
    async with Supervisor(events.append) as supervisor:
        policy = RestartPolicy(first=0.01, limit=2)
        await supervisor.start(child("good"))
        await supervisor.start(child("bad", "raise SystemExit(3)", policy=policy))
        async with asyncio.timeout(60):
            failed = await supervisor.failure()
        assert (failed.spec.name, failed.code, failed.restarts) == ("bad", 3, 2)
    assert [e.kind for e in events if e.name == "bad"][-2:] == ["exited", "gave-up"]


async def test_a_stubborn_child_is_killed(tmp_path: Path) -> None:
    events: list[ChildEvent] = []
    async with Supervisor(events.append) as supervisor:
        kept = await supervisor.start(child("a", STUBBORN, stop_timeout=0.1, log=tmp_path / "deep" / "a.log"))
        await until(lambda: (tmp_path / "deep" / "a.log").read_text() == "on\n")
        pid = kept.pid
    assert events[-1] == ChildEvent("a", "killed", pid or 0, -signal.SIGKILL)


async def test_stop_during_the_pause_before_a_restart() -> None:
    events: list[ChildEvent] = []
    async with Supervisor(events.append) as supervisor:
        await supervisor.start(child("a", "pass", policy=RestartPolicy(first=60, longest=60)))
        await until(lambda: events[-1].kind == "restarting")
        async with asyncio.timeout(20):
            await supervisor.stop("a")
    assert events[-1].kind == "restarting"


async def test_environment_and_folder(tmp_path: Path) -> None:
    code = "import os; print(os.environ['HAMS_X'], os.getcwd(), os.getsid(0) == os.getpid())"
    async with Supervisor() as supervisor:
        spec = child("a", code, env={"HAMS_X": "y"}, cwd=tmp_path, log=tmp_path / "log", policy=None)
        kept = await supervisor.start(spec)
        async with asyncio.timeout(60):
            await kept.ended.wait()
        assert kept.code == 0
        assert kept.failed
        # A name is free again once its process has ended.
        await supervisor.start(spec)
    assert (tmp_path / "log").read_text().splitlines()[0] == f"y {tmp_path} True"


async def test_names_are_unique_and_programs_must_exist() -> None:
    async with Supervisor() as supervisor:
        await supervisor.start(child("a"))
        with pytest.raises(InternalError, match="runs already"):
            await supervisor.start(child("a"))
        with pytest.raises(InternalError, match="no program"):
            await supervisor.start(ChildSpec("b", ("/no/such/program",)))


async def test_a_failing_body_stops_the_children() -> None:
    pids: list[int | None] = []

    async def body() -> None:
        async with Supervisor() as supervisor:
            pids.append((await supervisor.start(child("a"))).pid)
            raise HamsError("body")

    with pytest.raises(HamsError, match="body"):
        await body()
    assert pids[0] is not None
    assert not alive(pids[0])


async def test_a_cancelled_stop_leaves_no_process(tmp_path: Path) -> None:
    pids: list[int | None] = []
    stopping = asyncio.Event()

    async def body() -> None:
        async with Supervisor() as supervisor:
            kept = await supervisor.start(child("a", STUBBORN, stop_timeout=60, log=tmp_path / "log"))
            pids.append(kept.pid)
            await until(lambda: (tmp_path / "log").read_text() == "on\n")
            stopping.set()

    task = asyncio.create_task(body())
    await stopping.wait()
    # Let it get into the wait for the stubborn one.
    await asyncio.sleep(0.05)
    task.cancel()
    async with asyncio.timeout(60):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert pids[0] is not None
    pid = pids[0]
    await until(lambda: not alive(pid))


async def test_a_callback_that_fails_does_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    def fail(event: ChildEvent) -> None:
        raise ValueError("callback")

    async with Supervisor(fail) as supervisor:
        await supervisor.start(child("a"))
    assert "callback" in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_children_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    import subprocess

    from hams_shared.runtime import supervise

    pid_file = tmp_path / "pid"
    code = f"""
import asyncio, sys
from pathlib import Path
from hams_shared.runtime.supervise import ChildSpec, Supervisor
async def main():
    async with Supervisor() as s:
        c = await s.start(ChildSpec("a", (sys.executable, "-c", "import time; print('on', flush=True); time.sleep(60)"),
                                    log=Path({str(tmp_path / "log")!r})))
        while not Path({str(tmp_path / "log")!r}).read_text():
            await asyncio.sleep(0.01)
        Path({str(pid_file)!r}).write_text(str(c.pid) + "\\n")
        await asyncio.sleep(60)
asyncio.run(main())
"""
    env = {"PYTHONPATH": str(Path(supervise.__file__).parents[2])}
    with subprocess.Popen([sys.executable, "-c", code], env=env) as parent:
        until_sync(lambda: pid_file.exists() and pid_file.read_text().endswith("\n"))
        pid = int(pid_file.read_text())
        assert alive(pid)
        parent.kill()
        until_sync(lambda: not alive(pid))


async def test_a_child_that_is_renewed_runs_again_and_that_is_no_failure() -> None:
    events: list[ChildEvent] = []
    async with Supervisor(events.append) as supervisor:
        one = await supervisor.start(child("one", policy=RestartPolicy(limit=0)))  # gives up at the first exit
        for _ in range(3):
            await one.renew()
            await until(lambda: one.pid is not None, 10)
        assert not one.failed
        assert one.restarts == 3
    await one.renew()  # one that was stopped stays so
    assert one.pid is None
    assert [e.kind for e in events] == ["started", "stopped"] * 4


@pytest.mark.parametrize("comes_back", [True, False])
async def test_a_restart_that_cannot_be_launched_is_tried_again(tmp_path: Path, comes_back: bool) -> None:
    events: list[ChildEvent] = []
    program = tmp_path / "program"
    program.symlink_to(sys.executable)
    argv = (str(program), "-c", SLEEP)
    async with Supervisor(events.append) as supervisor:
        policy = RestartPolicy(first=0.01, limit=1000 if comes_back else 2)
        kept = await supervisor.start(ChildSpec("a", argv, policy=policy))
        program.unlink()
        assert kept.pid is not None
        os.kill(kept.pid, signal.SIGKILL)
        if comes_back:
            await until(lambda: [e.kind for e in events].count("restarting") > 1)
            program.symlink_to(sys.executable)
            await until(lambda: kept.pid is not None)
            assert not kept.failed
        else:
            async with asyncio.timeout(60):
                assert await supervisor.failure() is kept
            assert [e.kind for e in events] == ["started", "exited", "restarting", "restarting", "gave-up"]
