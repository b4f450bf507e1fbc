"""The cost of reading each video, measured by the pipeline before the groups that play it are placed. Pure.

Only files are measured: a camera gives frames at its own pace, and may not take a second connection.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from hams_scheduler.events import MeasureVideo
from hams_shared.group.source_kind import source_kind
from hams_shared.group.spec import VGA
from hams_shared.group.stream_spec import StreamSpec
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.pipeline import ReadCost

KNOWN_LIMIT = 1024
"""Most videos whose cost is kept, unless more are played or asked about."""
UNKNOWN = ReadCost()


@dataclass
class Videos:
    """The videos whose cost is known, or being measured."""

    costs: dict[str, ReadCost] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    pipeline: str = ""
    """The incarnation of the pipeline that reported last."""
    revision: int = 0
    """Grows when a cost changes."""

    def start_due(self, records: Iterable[GroupRecord]) -> list[MeasureVideo]:
        """Start to measure the videos of `records` that are not known; forget others when there are too many."""
        wanted = {key(stream): stream for record in records for stream in _files(record)}
        if len(self.costs) > KNOWN_LIMIT:
            others = [name for name in self.costs if name not in wanted]
            for name in others[: len(self.costs) - KNOWN_LIMIT]:
                del self.costs[name]
        commands = [
            MeasureVideo(name, stream)
            for name, stream in wanted.items()
            if name not in self.costs and name not in self.running
        ]
        self.running.update(command.key for command in commands)
        return commands

    def measured(self, name: str, cost: ReadCost) -> None:
        """Take a measurement; a CPU time of 0: it failed."""
        self.running.discard(name)
        self.costs.pop(name, None)
        self.costs[name] = cost
        self.revision += 1

    def pipeline_seen(self, incarnation: str) -> None:
        """A pipeline that has just been started is asked about what could not be measured."""
        if incarnation != self.pipeline:
            self.pipeline = incarnation
            self.costs = {name: cost for name, cost in self.costs.items() if cost.cpu_ms > 0}
            self.revision += 1

    def missing(self, records: Iterable[GroupRecord]) -> bool:
        """Whether a video of `records` is being measured."""
        return any(key(stream) in self.running for record in records for stream in _files(record))

    def cost(self, stream: StreamSpec, unknown: float) -> float:
        """CPU seconds of reading a frame; `unknown` where it was not measured."""
        return self.costs.get(key(stream), UNKNOWN).cpu_ms / 1e3 or unknown

    def pixels(self, record: GroupRecord) -> float:
        """Pixels of a frame of the group, mean over its streams; those not measured count as :data:`VGA`."""
        sizes = [self.costs.get(key(stream), UNKNOWN).pixels or VGA for stream in record.spec.streams.values()]
        return sum(sizes) / len(sizes) if sizes else float(VGA)


def key(stream: StreamSpec) -> str:
    """What the cost of reading depends on."""
    return f"{stream.decode.every} {stream.decode.hardware} {stream.source}"


def _files(record: GroupRecord) -> list[StreamSpec]:
    return [stream for stream in record.spec.streams.values() if source_kind(stream.source) == "file"]
