"""What frames bring to nodes of groups that leave some work out: pieces of work per frame, and frames/s. Pure.

Where each frame brings each node one piece of work, agents' counters alone tell how many frames there were. With
cadences, conditions and gates they do not: a group may deliver 25 frames/s while its detector looks at five of them.
There the pipeline counts the frames, once a second, and agents count the pieces, in heartbeats:

    pieces per frame = pieces / frames delivered or gated

both summed over the time, so that it does not matter that they come at different moments.

A frame that is lost is one that waited for a device. On every fifth frame with a device that can do only two of five,
two pieces come for 22 frames; but five are wanted for 25. So each lost frame counts as one that wants a piece of the
root, up to what is expected of the root, and the other nodes' pieces grow with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from hams_scheduler.ratio import Ratio
from hams_shared.wire.messages.pipeline import PipelineLoad, StreamLoad

MEMORY_FRAMES = 2000.0
"""Frames after which an observation has lost 63 % of its weight: scenes change."""
PRIOR_FRAMES = 25.0
"""What is expected counts as much as this many frames: few, since rules are regular, and quiet scenes have few pieces
among many frames."""
RATE_MEMORY_S = 5.0
"""The measured frame rate is a mean over about this long, s."""
SILENT_S = 3.0
"""Without a report for so long nothing is known of a group's frame rate, s; reports come once a second."""
LEAST = 1e-3
"""Fewest pieces of work per frame."""


@dataclass
class GroupFrames:
    """The frames of one group, of one deployment."""

    root: str
    deployed_at: float
    rate: Ratio = field(default_factory=lambda: Ratio(RATE_MEMORY_S))
    """Frames delivered or gated over seconds."""
    lost: Ratio = field(default_factory=lambda: Ratio(MEMORY_FRAMES))
    """Frames lost over frames delivered or gated."""
    pieces: dict[str, Ratio] = field(default_factory=dict)
    """By node: pieces of work over frames delivered or gated."""
    waiting: dict[str, int] = field(default_factory=dict)
    """By node: pieces since the newest report."""
    reported_at: float = 0.0

    def per_frame(self, node: str, prior: float, root_prior: float) -> float:
        """Pieces of work of `node` per frame; `prior` are those of the node and of the root that are expected."""
        known = self.pieces.get(node)
        if known is None:
            return prior
        wanted = known.above * self._wanted(root_prior)
        return max((wanted + prior * PRIOR_FRAMES) / (known.below + PRIOR_FRAMES), LEAST)

    def _wanted(self, root_prior: float) -> float:
        """The pieces that would have come, had no frame been lost, in times of those that did."""
        known = self.pieces.get(self.root)
        if known is None or known.above <= 0:
            return 1.0
        root, lost = known.value(0.0, 0.0), self.lost.value(0.0, PRIOR_FRAMES)
        return min((root + lost) / (1.0 + lost), max(root, root_prior), 1.0) / root


@dataclass
class FrameCounts:
    """The frames of all groups that leave some work out."""

    groups: dict[str, GroupFrames] = field(default_factory=dict)

    def of(self, group: str, deployed_at: float) -> GroupFrames | None:
        """What was counted of that deployment of `group`; None: nothing."""
        known = self.groups.get(group)
        return known if known is not None and known.deployed_at == deployed_at else None

    def add_pieces(self, group: str, deployed_at: float, root: str, node: str, pieces: int) -> None:
        """Take the pieces of work that `node` of that deployment of `group` did."""
        known = self.of(group, deployed_at)
        if known is None:
            known = self.groups[group] = GroupFrames(root, deployed_at)
        known.waiting[node] = known.waiting.get(node, 0) + pieces

    def carry_on(self, group: str, before: float, deployed_at: float) -> None:
        """What was counted of the deployment `before` counts for a later one, which does the same work per frame."""
        known = self.of(group, before)
        if known is not None:
            known.deployed_at = deployed_at

    def add_frames(self, group: str, frames: int, lost: int, seconds: float, now: float) -> bool:
        """Take the frames that the pipeline counted in `seconds`; return whether pieces of them are counted."""
        known = self.groups.get(group)
        if known is None:
            return False
        known.rate.add(frames, seconds)
        known.reported_at = now
        if frames > 0:
            known.lost.add(lost, frames)
            for node in known.waiting.keys() | known.pieces.keys():
                ratio = known.pieces.setdefault(node, Ratio(MEMORY_FRAMES))
                ratio.add(known.waiting.get(node, 0), frames)
            known.waiting.clear()
        return frames > 0

    def begin(self, groups: Iterable[str]) -> None:
        """The pipeline of these groups counts anew: pieces of frames that it did not report are forgotten."""
        for group in self.groups.keys() & set(groups):
            self.groups[group].waiting.clear()

    def expire(self, now: float) -> None:
        """Forget the frame rates of groups of which no pipeline reports any more."""
        for known in self.groups.values():
            if known.rate.below > 0 and now - known.reported_at > SILENT_S:
                known.rate = Ratio(RATE_MEMORY_S)

    def fps(self, group: str, deployed_at: float) -> float:
        """Frames/s that the pipeline delivers or gates; 0 when unknown."""
        known = self.of(group, deployed_at)
        return 0.0 if known is None or known.rate.below <= 0 else known.rate.value(0.0, 0.0)


def new_frames(load: PipelineLoad, last: PipelineLoad) -> dict[str, tuple[int, int]]:
    """By group: frames delivered or gated, and frames lost, between two reports of one pipeline."""
    before = {(one.group, one.stream): one for one in last.streams}
    found: dict[str, tuple[int, int]] = {}
    for stream in load.streams:
        frames, lost = _ended(stream)
        was, gone = _ended(before.get((stream.group, stream.stream)))
        if frames < was or lost < gone:  # the group was deployed anew
            was = gone = 0
        total, missed = found.get(stream.group, (0, 0))
        found[stream.group] = total + frames - was, missed + lost - gone
    return found


def _ended(stream: StreamLoad | None) -> tuple[int, int]:
    """Frames delivered or gated, and lost, since the stream began; those read where a pipeline does not count them."""
    if stream is None:
        return 0, 0
    return (stream.frames, 0) if stream.completed is None else (stream.completed, stream.lost)
