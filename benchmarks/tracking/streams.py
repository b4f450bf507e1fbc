"""How many streams of 25 frames/s a group carries, as `plan --max-streams` predicts it and as it is served.

The group is deployed with one stream; once its rates are measured, `plan` predicts from them. Then it is deployed with
more and more live streams until one gets less than `FLOOR` of its frames.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.serving.hams import System
from benchmarks.tracking.served import EXAMPLES, group_file
from hams_client import connect
from hams_shared.bus.ask import pipeline_view
from hams_shared.wire.messages.pipeline import StreamView

FPS = 25.0
FLOOR = 0.97
SETTLED_S, SERVED_S = 12.0, 15.0
MOST = 12

Group = dict[str, Any]


@dataclass
class Streams:
    """What one group carries."""

    case: str
    predicted_fps: float
    """Of the group, by `plan`."""
    predicted: int
    measured: dict[int, float]
    """By the number of streams, the least part of a stream's frames that was delivered."""
    delivered: dict[int, float]
    """By the number of streams, results/s of all together."""

    @property
    def carried(self) -> int:
        """The largest number of streams of which each got `FLOOR` of its frames."""
        return max((count for count, part in self.measured.items() if part >= FLOOR), default=0)


def measure(case: str, group: Group, devices: Sequence[str]) -> dict[str, Any]:
    """Serve `group`, which has one stream, with more and more of it; return a :class:`Streams` as a dictionary."""
    found = Streams(case, 0.0, 0, {}, {})
    with tempfile.TemporaryDirectory() as home:
        os.environ["HAMS_HOME"] = home
        with System(list(devices)) as system:
            count = 1
            while count <= MOST:
                part, rate = _serve(system, Path(home), _with_streams(group, count))
                found.measured[count], found.delivered[count] = round(part, 3), round(rate, 1)
                if count == 1:
                    found.predicted_fps, found.predicted = _predicted(system, Path(home))
                if part < FLOOR and count > found.predicted:
                    break
                count += 1
            system.ctl("undeploy", group["name"])
    return asdict(found) | {"carried": found.carried}


def _with_streams(group: Group, count: int) -> Group:
    copied = copy.deepcopy(group)
    stream = next(iter(copied["streams"].values())) | {"pace": "realtime", "mode": "live", "loop": True, "fps": FPS}
    copied["streams"] = {f"s{number}": dict(stream) for number in range(count)}
    return copied


def _serve(system: System, home: Path, group: Group) -> tuple[float, float]:
    """Deploy it; return the least part of a stream's frames that were delivered, and results/s in all."""
    path = home / "group.yaml"
    path.write_text(yaml.safe_dump(group, sort_keys=False))
    system.ctl("deploy", str(path))
    time.sleep(SETTLED_S)
    before, begun = asyncio.run(_streams(system.url)), time.monotonic()
    time.sleep(SERVED_S)
    after, seconds = asyncio.run(_streams(system.url)), time.monotonic() - begun
    rates = [(after[name].delivered - before[name].delivered) / seconds for name in after]
    return min(rates) / FPS, sum(rates)


async def _streams(url: str) -> dict[str, StreamView]:
    async with connect(url) as hams:
        return {one.stream: one for one in (await pipeline_view(hams.bus, timeout=30)).streams}


def _predicted(system: System, home: Path) -> tuple[float, int]:
    """Return the group's FPS and the streams that `plan` predicts of the matrix as it is measured now."""
    asked = ("plan", str(home / "group.yaml"), "--strategy", "optimal", "--max-streams", str(FPS), "--json")
    answer = json.loads(system.ctl(*asked))[0]
    return float(answer["fps"]), int(next(iter(answer["max_streams"].values())))


def main() -> None:
    """Print what Service F's detector and three children carry, as they are and with rules, as JSON."""
    kept = ["face", "gender", "age", "emotion"]
    rules: dict[str, dict[str, Any]] = {"face": {"track": {"motion": "flow"}, "cadence": 5}}
    rules |= {child: {"cadence": "track"} for child in kept[1:]}
    for case, keys in (("as it is", {}), ("with rules", rules)):
        group = group_file(EXAMPLES / "face.yaml", None, keys, kept)
        print(json.dumps(measure(case, group, ("openvino:CPU",))), flush=True)


if __name__ == "__main__":
    main()
