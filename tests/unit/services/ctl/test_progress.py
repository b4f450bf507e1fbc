"""Progress without a terminal: which lines are printed, and when."""

from __future__ import annotations

import io
import threading

from rich.console import Console
from rich.progress import Progress

from hams_services.ctl.progress import LINE_S, QUIET_S, Bars, Creeping, Lines, Printed


def test_what_ends_soon_gets_no_line() -> None:
    lines = Lines()
    assert lines.report("fetch face", 0, 100, "", 0.0) == []
    assert lines.due(QUIET_S - 0.1) == []
    assert lines.report("fetch face", 100, 100, "", QUIET_S - 0.05) == []
    assert lines.due(100.0) == []


def test_what_takes_longer_gets_a_line_every_few_seconds_and_a_last_one() -> None:
    lines = Lines()
    lines.report("fetch face", 0, 200, "", 0.0)
    assert lines.due(QUIET_S) == ["fetch face: 0 % (2 s)"]
    assert lines.report("fetch face", 50, 200, "", QUIET_S + 1) == []
    assert lines.report("fetch face", 90, 200, "", QUIET_S + LINE_S) == ["fetch face: 45 % (7 s)"]
    assert lines.due(QUIET_S + 2 * LINE_S - 0.1) == []
    assert lines.due(QUIET_S + 2 * LINE_S) == ["fetch face: 45 % (12 s)"]
    assert lines.report("fetch face", 200, 200, "", 13.0) == ["fetch face: done (13 s)"]
    assert lines.report("fetch face", 200, 200, "", 13.1) == []


def test_the_next_step_ends_one_whose_total_is_not_known() -> None:
    lines = Lines()
    lines.report("play", 0, 0, "1 frames", 0.0)
    assert lines.due(3.0) == ["play: 1 frames (3 s)"]
    lines.report("play", 0, 0, "30 frames", 4.0)
    assert lines.report("stop", 0, 0, "", 5.0) == ["play: done (5 s)"]
    assert lines.due(6.9) == []
    assert lines.due(7.0) == ["stop (2 s)"]
    assert lines.end("play", 7.5) == []
    assert lines.close(8.0) == ["stop: done (3 s)"]
    assert lines.close(9.0) == []


def test_detail_stands_behind_the_part_done() -> None:
    lines = Lines()
    lines.report("quantise", 1, 4, "age", 0.0)
    assert lines.due(2.0) == ["quantise: 25 %, age (2 s)"]


def test_a_step_that_never_reports_again_is_printed_by_the_thread() -> None:
    class Output(io.StringIO):
        here = threading.Event()

        def write(self, text: str) -> int:
            if "look for devices" in text:
                self.here.set()
            return super().write(text)

    printed_text = Output()
    with Printed(Console(file=printed_text, force_terminal=False)) as printed:
        printed("look for devices", 0, 0)
        assert printed_text.here.wait(QUIET_S + 20)
    assert printed_text.getvalue().startswith("look for devices (")
    assert not any(thread.name == "progress" for thread in threading.enumerate())


def test_the_next_bar_completes_the_one_before() -> None:
    progress = Progress(console=Console(file=io.StringIO(), force_terminal=True))
    bars = Bars(progress)
    bars("plan", 0, 0)
    assert not progress.tasks[0].finished
    bars("load models", 1, 4, "age")
    assert progress.tasks[0].finished
    assert not progress.tasks[1].finished
    assert progress.tasks[1].description == "load models: age"
    bars("play", 0, 0)
    assert progress.tasks[1].finished
    bars.end("play")
    assert progress.finished
    assert len(progress.tasks) == 2
    bars("stop", 0, 0)
    assert len(progress.tasks) == 3


def test_a_long_unit_does_not_stand_still() -> None:
    creeping = Creeping()
    assert creeping.parts("measure", 10, 12, 0.0) == (1000, 1200)
    parts = [creeping.parts("measure", 10, 12, float(second))[0] for second in range(1, 8)]
    assert parts == sorted(set(parts))
    assert 1000 < parts[0] < parts[-1] < 1100
    assert creeping.parts("measure", 10, 12, 1e6)[0] < 1100
    assert creeping.parts("measure", 11, 12, 1e6) == (1100, 1200)
    assert creeping.parts("measure", 12, 12, 2e6) == (1200, 1200)
    assert creeping.parts("load", 0, 0, 2e6) == (0, 0)
