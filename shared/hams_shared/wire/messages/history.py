"""The history: what happened in the system and why, told by the part that decided it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hams_shared.wire.messages.base import StoredAnswer, StoredRequest, Wire

HistoryKind = Literal[
    "leader",
    "group-deployed",
    "group-undeployed",
    "plan",
    "plan-active",
    "plan-dropped",
    "plan-withdrawn",
    "unplaced",
    "device-here",
    "device-lost",
    "device-back",
    "quarantine",
    "resumed",
    "network-out",
    "network-back",
    "refused",
    "benchmark-failed",
    "variant",
    "job-started",
    "job-done",
    "job-failed",
    "job-cancelled",
]


class HistoryEntry(Wire):
    """Something that happened, on ``hams.v1.history.<by>``; the broker keeps it for a month."""

    version: Literal[1] = 1
    id: str = Field(description="unique")
    at: float = Field(0.0, description="Unix time, s, by the clock of who tells it")
    by: Literal["scheduler", "optimizer"]
    kind: HistoryKind
    text: str = Field(description="what happened, without a full stop")
    reason: str = Field("", description="why; empty: it needs no reason, or none is known")
    group: str = Field("", description="name of the group that it concerns; empty: none")
    device: str = Field("", description="id of the device that it is about; empty: none")
    devices: tuple[str, ...] = Field((), description="plan: ids of the devices that get or lose nodes")
    epoch: int = Field(0, ge=0, description="of the plan that it concerns; 0: none")
    key: str = Field(
        "",
        description="which one of several that have the name: of a device the incarnation of its agent, of a group "
        "when it was deployed, of a job its id",
    )
    fps_before: float = Field(0.0, description="plan: predicted FPS of the group by the plan before; 0: there was none")
    fps: float = Field(0.0, description="plan: predicted FPS of the group")

    @property
    def sentence(self) -> str:
        """What happened, and why."""
        return f"{self.text} ({self.reason})" if self.reason else self.text


class HistoryRequest(StoredRequest):
    """Request on ``hams.v1.history-after``: some of the stored entries, oldest first."""


class StoredEntry(Wire):
    """An entry as it is stored."""

    sequence: int = Field(description="grows from entry to entry; `after` takes it")
    entry: bytes = Field(description="an entry, msgpack")


class HistoryAnswer(StoredAnswer):
    """Stored entries, and where to read on; or why there are none."""

    entries: tuple[StoredEntry, ...] = ()
