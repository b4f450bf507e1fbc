"""What the history tells of jobs."""

from __future__ import annotations

import pytest

from hams_services.optimizer.job_history import told
from hams_shared.wire.messages.base import WireError
from hams_shared.wire.messages.optimizer import JobRecord

WAITS = JobRecord(id="ab12", kind="optimize", group="face")
RUNS = WAITS.model_copy(update={"state": "running", "host": "box1", "attempts": 1})
AGAIN = RUNS.model_copy(update={"attempts": 2})
DONE = RUNS.model_copy(update={"state": "done", "text": "10.00 → 15.00 FPS predicted (1.50×)"})
FAILED = RUNS.model_copy(update={"state": "failed", "error": WireError(code="x", text="no such folder")})
CANCELLED = WAITS.model_copy(update={"state": "cancelled"})
TRAINS = RUNS.model_copy(update={"kind": "train", "node": "age"})


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        (None, WAITS, None),
        (None, RUNS, None),  # read at the start: it was told when it happened
        (WAITS, RUNS, "job ab12: optimize face begins on box1"),
        (RUNS, RUNS.model_copy(update={"done": 10, "text": "measure"}), None),
        (RUNS, AGAIN, "job ab12: optimize face is continued on box1 (the optimizer ended in the middle, attempt 2)"),
        (RUNS, DONE, "job ab12: optimize face is done: 10.00 → 15.00 FPS predicted (1.50×)"),
        (RUNS, FAILED, "job ab12: optimize face failed (no such folder)"),
        (WAITS, CANCELLED, "job ab12: optimize face was cancelled"),
        (WAITS, TRAINS, "job ab12: train face/age begins on box1"),
        (DONE, DONE.model_copy(update={"report": "x"}), None),
        (CANCELLED, DONE, None),
    ],
)
def test_what_is_told(before: JobRecord | None, after: JobRecord, sentence: str | None) -> None:
    entry = told(before, after)
    assert (entry and entry.sentence) == sentence
    assert entry is None or (entry.group, entry.key) == ("face", "ab12")


def test_the_id_is_of_what_happened() -> None:
    one, other = told(WAITS, RUNS), told(RUNS, AGAIN)
    assert one is not None
    assert other is not None
    assert one.id != other.id
    assert one == told(WAITS, RUNS)
