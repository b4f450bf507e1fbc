"""What the kernel and the broker say of running processes."""

from __future__ import annotations

import json
import os
import urllib.request
from dataclasses import dataclass
from pathlib import Path

TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """One process now."""

    memory_mib: float
    """Resident, without shared memory."""
    frames_mib: float
    """Resident shared memory: frames, each counted in every process that has it mapped."""
    cpu_s: float
    """User and system time of all its threads so far."""


def usage(pid: int) -> Usage:
    """Read ``/proc``."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    kib = {key: int(status[key].split()[0]) for key in ("RssAnon", "RssFile", "RssShmem")}
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return Usage(
        memory_mib=(kib["RssAnon"] + kib["RssFile"]) / 1024,
        frames_mib=kib["RssShmem"] / 1024,
        cpu_s=(int(fields[11]) + int(fields[12])) * TICK_S,
    )


def traffic(monitor: int) -> tuple[int, int]:
    """Bytes that the broker took in and gave out so far."""
    with urllib.request.urlopen(f"http://127.0.0.1:{monitor}/varz", timeout=5) as answer:
        said = json.load(answer)
    return int(said["in_bytes"]), int(said["out_bytes"])
