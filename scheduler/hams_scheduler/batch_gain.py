"""What batches make of a network's throughput, by its profile and the frames that wait for it. Pure.

A device that takes batches computes the images of a node that wait for it together (hams_agents.runtime.fair_queue).
Where the device is what the group waits for, nearly all of the group's frames in flight wait there, and each of its
lanes takes its part of them. Elsewhere fewer wait, and the device has time to spare.
"""

from __future__ import annotations

from hams_shared.group.spec import GroupSpec
from hams_shared.wire.messages.agents import DeviceRecord, ProfileRecord


def served_profile(
    profile: ProfileRecord, device: DeviceRecord, spec: GroupSpec, node: str, weight: float
) -> ProfileRecord:
    """Return `profile` with the throughput that `node` reaches in batches, and the CPU time where a CPU computes."""
    gain = batch_gain(profile, images_at_once(spec, node, weight, device.lanes))
    if gain == 1.0:
        return profile
    computed_here = device.kind == "cpu" and not device.emulated
    cpu_ms = profile.cpu_ms / gain if computed_here else profile.cpu_ms
    return profile.model_copy(update={"fps": profile.fps * gain, "cpu_ms": cpu_ms})


def images_at_once(spec: GroupSpec, node: str, weight: float, lanes: int) -> float:
    """Images of `node` that each of the lanes of a device finds waiting, where the group waits for that device.

    `weight` is the inferences of the node per frame. The root's device is sent no more live frames than it has lanes,
    and one that waits (hams_services.pipeline.routing).
    """
    lossless = sum(stream.mode == "lossless" for stream in spec.streams.values())
    live = (len(spec.streams) - lossless) * spec.window(lossless=False)
    if node == spec.root:
        live = min(live, lanes + 1)
    return max(1.0, (lossless * spec.window(lossless=True) + live) * weight / max(lanes, 1))


def batch_gain(profile: ProfileRecord, images: float) -> float:
    """The throughput in batches of `images` (fewer where the curve ends), in times of that of single images.

    The time of a batch between two that were measured is taken to grow evenly. 1 where none were measured.
    """
    lanes = max((point.lanes for point in profile.curve), default=1)
    seconds = {point.batch: point.batch / point.fps for point in profile.curve if point.lanes == lanes}
    sizes = sorted(seconds)
    if len(sizes) < 2 or sizes[0] != 1:
        return 1.0
    images = min(max(images, 1.0), float(sizes[-1]))
    above = next(size for size in sizes[1:] if images <= size)
    below = sizes[sizes.index(above) - 1]
    part = (images - below) / (above - below)
    return images * seconds[1] / (seconds[below] + part * (seconds[above] - seconds[below]))
