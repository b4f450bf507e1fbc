"""Which job an optimizer takes, and what becomes of one that keeps ending it."""

from __future__ import annotations

from typing import Any

from hams_services.optimizer.queue import ATTEMPTS, KEPT, forgotten, given_up, next_job
from hams_shared.wire.messages.optimizer import JobRecord


def job(name: str, at: float = 0.0, **more: Any) -> JobRecord:
    return JobRecord(id=name, kind="optimize", group="face", created_at=at, **more)


def jobs(*records: JobRecord) -> dict[str, JobRecord]:
    return {one.id: one for one in records}


def test_the_oldest_that_waits_is_taken() -> None:
    taken = next_job(jobs(job("b", 2), job("a", 1), job("c", 0, state="done")), "box")
    assert taken is not None
    assert (taken.id, taken.state, taken.host, taken.attempts) == ("a", "running", "box", 1)
    assert next_job({}, "box") is None


def test_what_was_begun_here_goes_first_and_what_runs_elsewhere_is_left() -> None:
    begun = job("old", 5, state="running", host="box", attempts=1)
    taken = next_job(jobs(job("a", 1), begun), "box")
    assert taken is not None
    assert (taken.id, taken.attempts) == ("old", 2)
    assert next_job(jobs(begun), "other") is None


def test_a_job_that_keeps_ending_its_optimizer_is_given_up() -> None:
    assert given_up(job("a", state="running", attempts=ATTEMPTS), 9.0) is None
    failed = given_up(job("a", state="running", attempts=ATTEMPTS + 1, text="optimize age"), 9.0)
    assert failed is not None
    assert (failed.state, failed.ended_at) == ("failed", 9.0)
    assert failed.error is not None
    assert "optimize age" in failed.error.text


def test_only_the_newest_ended_jobs_are_kept() -> None:
    # Handed in by somebody whose clock runs backwards: what counts is when they ended.
    many = jobs(*(job(f"j{i:03}", -i, state="failed", ended_at=i) for i in range(KEPT + 2)), job("now", 0.5))
    assert forgotten(many) == ["j000", "j001"]
