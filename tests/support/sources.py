"""Sources of a stream, opened and read to their end in the test's own thread."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hams_services.pipeline.sources.base import Source
from hams_services.pipeline.sources.opening import open_source
from hams_shared.errors import SourceError
from hams_shared.group.stream_spec import StreamSpec
from support.media import STEPS, is_upright, number_of


def opened(source: str | Path, **keys: Any) -> Source:
    """The source of a stream with these keys in its group file."""
    return open_source(StreamSpec(source=str(source), **keys))


@dataclass
class Played:
    """What a source gave until its end; of each frame its number, its time, s, and its size."""

    numbers: list[int] = field(default_factory=list)
    times: list[float | None] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    captured: list[float | None] = field(default_factory=list)
    upright: bool = True
    error: str = ""
    """The error at the end."""

    def in_order(self, count: int) -> bool:
        """Whether these are frames 0, 1, 2 …, `count` of them."""
        return self.numbers == [number % STEPS for number in range(count)]


def played(source: Source, most: int = 1000) -> Played:
    """Read up to `most` frames, and close the source if it ended."""
    found = Played()
    try:
        while len(found.numbers) < most:
            if (shot := source.read()) is None:
                break
            found.numbers.append(number_of(shot.pixels))
            found.times.append(shot.at)
            found.sizes.append((shot.pixels.shape[1], shot.pixels.shape[0]))
            found.captured.append(shot.captured)
            found.upright &= is_upright(shot.pixels)
        else:
            return found
    except SourceError as error:
        found.error = str(error)
    source.close()
    return found
