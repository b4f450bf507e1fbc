"""Messages of a candidate: what it is tried for and how, and what the pipeline has seen of it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hams_shared.wire.messages.base import Wire


class Candidate(Wire):
    """In a group's record: it is no group of its own, it is tried on frames of another one."""

    of: str = Field(description="the group that serves")
    mode: Literal["shadow", "canary"]
    share: float = Field(gt=0, le=1, description="of the frames of each stream")
    rule: str = Field("", description="what must hold, as docs/candidates.md explains; empty: people decide")
    after: int = Field(500, ge=1, description="frames that it is tried on before the rule counts")
    promote: Literal["no", "auto"] = Field("no", description="auto: it is promoted once the rule holds")
    strategy: str = Field("hfs", description="in its group file")
    priority: int = Field(0, description="in its group file")
    target_fps: float | None = Field(None, description="in its group file")
    turns: float = Field(1.0, description="`share` in its group file")


class Quantiles(Wire):
    """Of the newest frames, ms."""

    p50_ms: float = 0.0
    p95_ms: float = 0.0
    p99_ms: float = 0.0


class ArmView(Wire):
    """How long the frames of one of the two take."""

    latency: Quantiles = Field(Quantiles(), description="from reading a frame to its result")
    work: Quantiles = Field(Quantiles(), description="in the steps of its nodes, without waiting")


class CandidateStream(Wire):
    """What a candidate did for one stream since it follows that."""

    stream: str
    chosen: int = Field(0, description="frames that were for it")
    skipped: int = Field(0, description="of these: it was behind, or not placed, so it did not get them")
    frames: int = Field(0, description="of these: shadow: compared; canary: published from it")
    failed: dict[str, int] = Field({}, description="frames that it failed at, by reason")
    dropped: dict[str, int] = Field({}, description="shadow: frames that were lost on the way, by reason")
    unpaired: int = Field(0, description="shadow: of these what serves has no result, so nothing was compared")


class CandidateView(Wire):
    """One candidate as the pipeline sees it."""

    group: str = Field(description="the candidate's own name")
    of: str
    mode: Literal["shadow", "canary"]
    share: float
    rule: str = ""
    after: int = 0
    promote: str = "no"
    state: Literal["waiting", "running", "promoted", "dropped"]
    text: str = Field("", description="why it waits, or why it was promoted or dropped")
    deployed_at: float = 0.0
    frames: int = Field(0, description="frames that count for the rule: compared or published, and those that failed")
    agreement: float | None = Field(None, description="shadow: the least of its nodes', 0-1; none: not known yet")
    nodes: dict[str, float] = Field({}, description="shadow: agreement with what serves, by node")
    not_compared: tuple[str, ...] = Field((), description="nodes that only one of the two has")
    serving: ArmView = ArmView()
    candidate: ArmView = ArmView()
    streams: tuple[CandidateStream, ...] = ()
