"""What the history tells of the optimizer's jobs. Pure."""

from __future__ import annotations

from hams_shared.wire.messages.history import HistoryEntry, HistoryKind
from hams_shared.wire.messages.optimizer import JobRecord


def told(before: JobRecord | None, after: JobRecord) -> HistoryEntry | None:
    """Return what is told when a job's record changes; None: nothing happened to it that is worth telling.

    A job that is seen for the first time is no news. The id depends only on what happened, so that of several
    optimizers that see it, one tells it.
    """
    if before is None or before.over or (before.state, before.attempts) == (after.state, after.attempts):
        return None
    what = f"job {after.id}: {after.kind} {after.group}{f'/{after.node}' if after.node else ''}"
    kind: HistoryKind
    reason = ""
    match after.state:
        case "running" if after.attempts > 1:
            kind, text = "job-started", f"{what} is continued on {after.host}"
            reason = f"the optimizer ended in the middle, attempt {after.attempts}"
        case "running":
            kind, text = "job-started", f"{what} begins on {after.host}"
        case "done":
            kind, text = "job-done", f"{what} is done: {after.text}"
        case "failed":
            kind, text, reason = "job-failed", f"{what} failed", after.error.text if after.error else after.text
        case "cancelled":
            kind, text = "job-cancelled", f"{what} was cancelled"
        case _:
            return None
    id = f"job.{after.id}.{after.state}.{after.attempts}"
    return HistoryEntry(id=id, by="optimizer", kind=kind, text=text, reason=reason, group=after.group, key=after.id)
