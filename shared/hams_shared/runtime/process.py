"""Facts about this process and host, from the operating system."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from hams_shared.errors import BadInputError


def resident_mib() -> float:
    """Resident memory of this process, MiB; on systems without /proc the peak instead."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    except (OSError, ValueError, IndexError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 2**10)


def host_name() -> str:
    """This host's name: HAMS_HOST if set, else the operating system's."""
    return os.environ.get("HAMS_HOST") or socket.gethostname().split(".")[0]


def state_folder() -> Path:
    """Return the folder of a running HAMS's state: HAMS_HOME, or ``~/.hams``."""
    return Path(os.environ.get("HAMS_HOME") or Path.home() / ".hams")


def cache_folder() -> Path:
    """Return the folder of fetched and pulled files: HAMS_CACHE, or ``~/.cache/hams``."""
    return Path(os.environ.get("HAMS_CACHE") or Path.home() / ".cache" / "hams")


def machine() -> str:
    """Return the operating system's name of this machine; inside a container, the container's."""
    return socket.gethostname()


def in_container(root: Path = Path("/")) -> bool:
    """Whether this process has a container's file system: Docker and Podman leave a file in it."""
    return (root / ".dockerenv").exists() or (root / "run/.containerenv").exists()


MOUNTED = (
    "this container sees the folders groups, models and media beside docker-compose.yml, and cameras; docs/docker.md: "
    "your own files"
)


def mounted_hint(folder: Path = Path("/opt/hams/groups")) -> str:
    """Return what to do about a file that is missing here: where Compose has mounted its `folder`, what else it mounts.

    Any other container may have the whole file system of its user.
    """
    return MOUNTED if folder.is_dir() else ""


def kv_replicas() -> int:
    """How many servers of a NATS cluster are to hold each bucket: HAMS_KV_REPLICAS, or 1.

    Raises:
        BadInputError: it is not a number that JetStream knows.
    """
    text = os.environ.get("HAMS_KV_REPLICAS", "").strip() or "1"
    if text not in ("1", "3", "5"):
        raise BadInputError(
            f"HAMS_KV_REPLICAS is {text!r}, not 1, 3 or 5",
            "1: a single server; 3: a cluster of three, which outlives the loss of one",
        )
    return int(text)
