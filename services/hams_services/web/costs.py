"""What hams-web costs, for api/self: CPU time of encoding pictures apart from that of the rest, and memory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from hams_shared.runtime.process import resident_mib


@dataclass
class Costs:
    """Counters since the start."""

    began: float = field(default_factory=time.monotonic)
    pictures: int = 0
    """Sent to viewers."""
    picture_bytes: int = 0
    encoded: int = 0
    """Pictures that the pipeline made for the page; each is sent to all who look."""
    encoding_cpu_s: float = 0.0
    """What scaling and encoding these cost the pipeline, CPU seconds."""
    states: int = 0
    """How often the state was read."""

    def made(self, cpu_ms: float) -> None:
        """Count a picture that the pipeline made."""
        self.encoded += 1
        self.encoding_cpu_s += cpu_ms / 1e3

    def sent(self, records: Sequence[bytes]) -> None:
        """Count pictures that are sent to one viewer."""
        self.pictures += len(records)
        self.picture_bytes += sum(map(len, records))

    def report(self) -> dict[str, float]:
        """Return the counters, and the process's CPU time and memory."""
        return {
            "uptime_s": time.monotonic() - self.began,
            "cpu_s": time.process_time(),
            "encoding_cpu_s": self.encoding_cpu_s,
            "pictures_encoded": self.encoded,
            "pictures_sent": self.pictures,
            "picture_bytes": self.picture_bytes,
            "states_read": self.states,
            "memory_mib": resident_mib(),
        }
