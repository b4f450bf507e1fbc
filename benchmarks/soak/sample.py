"""What parts and broker hold now."""

from __future__ import annotations

from pathlib import Path

from benchmarks.chaos.rig import PARTS, ChaosRig
from hams_client import Hams
from hams_shared.errors import HamsError
from hams_shared.wire import subjects
from hams_shared.wire.frame_pool import FOLDER, PREFIX

MIB = 2**20


async def sample(rig: ChaosRig, hams: Hams) -> dict[str, float]:
    """Return all figures by `figure/what`."""
    found: dict[str, float] = {}
    for name in (*PARTS, "broker"):
        part = rig.part(name)
        found |= {f"rss_mib/{name}": part.rss_mib, f"fds/{name}": part.fds, f"threads/{name}": part.threads}
    found["shm_mib/frames"] = round(sum(path.stat().st_size for path in FOLDER.glob(f"{PREFIX}*")) / MIB, 2)
    found["store_mib/jetstream"] = round(_size(rig.folder / "nats" / "jetstream") / MIB, 3)
    try:
        found["objects/models"] = len(await (await hams.bus.objects(subjects.MODEL_STORE)).sizes())
        kept = [await (await hams.bus.kv(subjects.bucket(name))).entries() for name in subjects.BUCKETS]
        sizes = [len(key) + len(entry.value or b"") for bucket in kept for key, entry in bucket.items()]
        found["kv_kib/all"] = round(sum(sizes) / 1024, 2)
    except HamsError:
        pass
    return found


def _size(folder: Path) -> int:
    """Bytes on the disk of all files; those that vanish meanwhile count nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_blocks * 512 if path.is_file() else 0
        except OSError:
            continue
    return total
