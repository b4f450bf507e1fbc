from __future__ import annotations

import asyncio
import json
import logging
import signal
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from hams_shared.errors import BrokerError, GroupSpecError, HamsError
from hams_shared.runtime import lifecycle
from hams_shared.runtime.lifecycle import ended, log_always, report, run, setup_logging
from support.wait import PATIENCE, until


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


async def ends(stop: asyncio.Event) -> None:
    assert not stop.is_set()


async def refuses(stop: asyncio.Event) -> None:
    raise GroupSpecError("nodes: missing", "see the manual")


async def breaks(stop: asyncio.Event) -> None:
    raise KeyError("oops")


async def groups(stop: asyncio.Event) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(breaks(stop))
        group.create_task(refuses(stop))


def test_a_clean_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(ends) == 0
    assert capsys.readouterr().err == ""


def test_an_error_is_one_line_and_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(refuses) == 2
    assert capsys.readouterr().err == "error: nodes: missing (see the manual)\n"


def test_a_defect_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(breaks) == 70
    captured = capsys.readouterr().err
    assert "KeyError" in captured
    assert captured.count("\n") == 1


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAMS_DEBUG", "1")
    assert run(refuses) == 2
    assert "Traceback" in capsys.readouterr().err


def test_of_several_errors_the_known_one_decides(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(groups) == 2
    assert [line.split(":")[1] for line in capsys.readouterr().err.splitlines()] == [" nodes", " KeyError"]


def test_equal_errors_are_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(ExceptionGroup("", [BrokerError("gone"), ExceptionGroup("", [BrokerError("gone")])])) == 5
    assert capsys.readouterr().err == "error: gone\n"


def in_a_process(code: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a process of its own: signals would end that of the tests where they are not taken."""
    env = {"PYTHONPATH": str(Path(lifecycle.__file__).parents[2])}
    return subprocess.run([sys.executable, "-c", code], env=env, timeout=60 * PATIENCE, capture_output=True, text=True)


def test_sigterm_sets_stop() -> None:
    code = """
import signal
from hams_shared.runtime.lifecycle import run
async def main(stop):
    signal.raise_signal(signal.SIGTERM)
    await stop.wait()
assert run(main) == 0
assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
"""
    done = in_a_process(code)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_main_that_does_not_stop_is_cut_short() -> None:
    code = """
import asyncio, signal, sys
from hams_shared.runtime.lifecycle import run
async def deaf(stop):
    signal.raise_signal(signal.SIGINT)
    await asyncio.sleep(600)
sys.exit(run(deaf, drain=0.1))
"""
    done = in_a_process(code)
    assert done.returncode == HamsError.exit_code
    assert "cut short" in done.stderr


def test_a_second_signal_ends_the_process_at_once() -> None:
    code = """
import asyncio
from hams_shared.runtime.lifecycle import run
async def main(stop):
    print("on", flush=True)
    await stop.wait()
    print("stopping", flush=True)
    await asyncio.sleep(60)
raise SystemExit(run(main))
"""
    env = {"PYTHONPATH": str(Path(lifecycle.__file__).parents[2])}
    with subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "on\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "stopping\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30 * PATIENCE) == 128 + signal.SIGTERM


def test_log_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HAMS_LOG", raising=False)
    setup_logging("agent")
    log = logging.getLogger("x")
    log.info("two\nlines %d", 1)
    log.debug("hidden")
    try:
        raise ValueError("bad\nthing")
    except ValueError:
        log.exception("it failed")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == [
        "info    agent two lines 1",
        lines[1].split(" ", 1)[1],
    ]
    assert "error   agent it failed: ValueError: bad thing (test_lifecycle.py:" in lines[1]


def test_log_level_and_debug(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAMS_LOG_LEVEL", "warning")
    setup_logging("agent")
    logging.info("hidden")
    monkeypatch.delenv("HAMS_LOG_LEVEL")
    setup_logging("agent", debug=True)
    try:
        raise ValueError("bad")
    except ValueError:
        logging.exception("shown")
    captured = capsys.readouterr().err
    assert "hidden" not in captured
    assert "Traceback" in captured


def test_json_log(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAMS_LOG", "json")
    setup_logging("agent")
    try:
        raise ValueError("bad")
    except ValueError:
        logging.getLogger("x").exception("it\nfailed")
    record = json.loads(capsys.readouterr().err)
    assert (record["level"], record["part"], record["logger"], record["text"]) == ("error", "agent", "x", "it\nfailed")
    assert "ValueError: bad" in record["traceback"]


def test_json_log_says_what_a_line_is_about(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HAMS_LOG", "json")
    setup_logging("agent")
    log_always(device="box.openvino.cpu")
    logging.getLogger("x").info("loaded", extra={"group": "face", "epoch": 3, "node": None, "colour": "red"})
    record = json.loads(capsys.readouterr().err)
    assert record.items() >= {"device": "box.openvino.cpu", "group": "face", "epoch": 3}.items()
    assert not {"node", "stream", "colour"} & record.keys()


async def test_a_lost_cancellation_is_made_again() -> None:
    lost = 0

    async def deaf() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                lost += 1
                if lost > 1:
                    raise

    tasks = [asyncio.create_task(deaf()), asyncio.create_task(asyncio.sleep(60))]
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await ended(tasks)
    assert all(task.cancelled() for task in tasks)
    assert lost == 2
    await ended([])


class Cycle:
    """Held by itself alone."""

    def __init__(self) -> None:
        self.me = self


def test_what_only_cycles_hold_is_freed_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the number of new objects alone it would stay until there are 20,000."""
    monkeypatch.setattr(lifecycle, "SEARCH_S", 0.01)
    monkeypatch.setattr(lifecycle, "SEARCH_SHARE", 1.0)

    async def main(stop: asyncio.Event) -> None:
        held = weakref.ref(Cycle())
        await until(lambda: held() is None)

    assert run(main) == 0
