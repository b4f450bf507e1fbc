"""How fast a network serves a node: what batches and large frames make of its profile. Pure.

A device that takes batches computes the images of a node that wait for it together (hams_agents.runtime.fair_queue).
Where the device is what the group waits for, nearly all of the group's frames in flight wait there, and each of its
lanes takes its part of them. Elsewhere fewer wait, and the device has time to spare.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hams_scheduler.learning import EMPTY, MESSAGE_CPU
from hams_scheduler.solver.instance import FloatArray
from hams_scheduler.variant_choice import cpu_s
from hams_shared.group.spec import VGA, GroupSpec
from hams_shared.wire.messages.agents import DeviceRecord, ProfileRecord

ROOT_PART = 0.25
"""The part of the frames in flight that wait for the root where its device is what the group waits for."""
PIXEL_S = 1.0e-9
"""CPU time that each further pixel of a frame costs the root's device: it makes the frame smaller, and cuts crops out
of it (decision 29)."""


class ServedSpeed(NamedTuple):
    """How fast a network serves a node on a device."""

    fps: float
    """Images/s."""
    cpu_s: float
    """CPU time of the device's host per image, s."""
    batch: float = 1.0
    """Images per inference."""

    def message_s(self, message_s: float, images: float) -> float:
        """What the node's message adds to an image, s; `message_s`: one with one image, `images`: images per message.

        A batch is handled once, whatever it holds.
        """
        return message_s * (EMPTY / images + (1.0 - EMPTY) / self.batch)

    def device_s(self, device: DeviceRecord, message_s: float) -> float:
        """Seconds of the device per image, where the message adds `message_s`.

        A CPU device has its own cores for all that its agent does: it also prepares, finishes, and handles messages.
        """
        if not (cores := own_cores(device)):
            return 1.0 / self.fps
        return max(1.0 / self.fps, (self.cpu_s + message_s * MESSAGE_CPU) / cores)


def own_cores(device: DeviceRecord) -> float:
    """The cores that compute a CPU device's networks and all that its agent does; 0: other devices, or not known."""
    return (len(device.cores) or device.host_cores) if device.computes_on_cpu else 0.0


def served_speed(
    profile: ProfileRecord,
    device: DeviceRecord,
    spec: GroupSpec,
    node: str,
    weight: float,
    pixels: float = VGA,
    pieces: float = 1.0,
) -> ServedSpeed:
    """Return how fast the network of `profile` (FPS > 0) serves `node`; `weight` and `pieces` as for
    :func:`images_at_once`.

    Batches gain throughput, and CPU time where a CPU computes. Frames of more `pixels` than VGA, with which it was
    measured, cost the root CPU time; in devices of several lanes these lanes do it.
    """
    many = (spec, node, weight, device.lanes, pixels, profile.fps, pieces)
    images = images_at_once(*many) if profile.curve else 1.0
    gain = batch_gain(profile, images)
    more_s = PIXEL_S * max(pixels - VGA, 0.0) if node == spec.root else 0.0
    spent = cpu_s(profile, device)
    return ServedSpeed(
        fps=1.0 / (1.0 / (profile.fps * gain) + (more_s / device.lanes if device.lanes > 1 else 0.0)),
        cpu_s=(spent / gain if device.computes_on_cpu else spent) + (more_s if spent else 0.0),
        batch=min(images, float(max(point.batch for point in profile.curve))) if profile.curve else 1.0,
    )


class DeviceTable:
    """Of D devices what the speeds of networks on them depend on."""

    def __init__(self, devices: Sequence[DeviceRecord], messages_s: Sequence[float]) -> None:
        self.devices = tuple(devices)
        self.messages_s = np.array(messages_s)
        """CPU time of a message of one image, s."""
        self.lanes = np.array([float(device.lanes) for device in devices])
        self.on_cpu = np.array([device.computes_on_cpu for device in devices], dtype=bool)
        self.cores = np.array([float(own_cores(device)) for device in devices])

    def served(
        self,
        at: Sequence[int],
        profiles: Sequence[ProfileRecord],
        spec: GroupSpec,
        node: str,
        weight: float,
        pixels: float = VGA,
        pieces: float = 1.0,
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """:func:`served_speed` of each of P profiles on the devices numbered `at`, at once.

        Returns P seconds of the device per image, P CPU seconds of the network, and P of its message.
        """  # fmt: skip
        lanes, on_cpu, cores = self.lanes[at], self.on_cpu[at], self.cores[at]
        fps = np.array([one.fps for one in profiles])
        spent = np.array([one.cpu_ms for one in profiles]) / 1e3
        for index in map(int, np.nonzero(spent <= 0)[0]):
            spent[index] = cpu_s(profiles[index], self.devices[at[index]])
        gain, batch = np.ones(len(fps)), np.ones(len(fps))
        for index, profile in enumerate(profiles):
            if profile.curve:
                lanes_there = self.devices[at[index]].lanes
                images = images_at_once(spec, node, weight, lanes_there, pixels, profile.fps, pieces)
                gain[index] = batch_gain(profile, images)
                batch[index] = min(images, float(max(point.batch for point in profile.curve)))
        more_s = PIXEL_S * max(pixels - VGA, 0.0) if node == spec.root else 0.0
        device_s = 1.0 / (fps * gain) + np.where(lanes > 1, more_s / lanes, 0.0)
        network_s = np.where(on_cpu, spent / gain, spent) + np.where(spent > 0, more_s, 0.0)
        message_s = self.messages_s[at] * (EMPTY * pieces / weight + (1.0 - EMPTY) / batch)
        known = cores > 0
        on_cores = (network_s + message_s * MESSAGE_CPU) / np.where(known, cores, 1.0)
        return np.where(known, np.maximum(device_s, on_cores), device_s), network_s, message_s


def images_at_once(
    spec: GroupSpec,
    node: str,
    weight: float,
    lanes: int,
    pixels: float = VGA,
    fps: float = math.inf,
    pieces: float = 1.0,
) -> float:
    """Images of `node` that each of the lanes of a device finds waiting, where the group waits for that device.

    `weight` is the inferences of the node per frame, `fps` the images/s of its network there, `pieces` are the pieces
    of its work per frame: where frames are left out, fewer of those in flight wait for it. The root gets new frames
    one by one, as others are done, so that fewer wait: a quarter, measured on emulated GPUs with 8, 16 and 32 frames in
    flight. It is sent no more live frames than its device has lanes, and one that waits
    (hams_services.pipeline.routing). The tiles of a frame are one batch.
    """
    lossless = sum(stream.mode == "lossless" for stream in spec.streams.values())
    live: float = (len(spec.streams) - lossless) * spec.window(lossless=False)
    window = spec.window(lossless=True, pixels=pixels, fps=fps / weight / max(lossless, 1))
    part, least = 1.0, 1.0
    if node == spec.root:
        live, part = min(live, (lanes + 1) / pieces), ROOT_PART
        least = weight / pieces if any(stream.tiles for stream in spec.streams.values()) else 1.0
    return max(least, part * (lossless * window + live) * weight / max(lanes, 1))


def batch_gain(profile: ProfileRecord, images: float) -> float:
    """The throughput in batches of `images` (fewer where the curve ends), in times of that of single images.

    The time of a batch between two that were measured is taken to grow evenly. 1 where none were measured.
    """
    if len(profile.curve) < 2:
        return 1.0
    lanes = max(point.lanes for point in profile.curve)
    seconds = {point.batch: point.batch / point.fps for point in profile.curve if point.lanes == lanes}
    sizes = sorted(seconds)
    if len(sizes) < 2 or sizes[0] != 1:
        return 1.0
    images = min(max(images, 1.0), float(sizes[-1]))
    above = next(size for size in sizes[1:] if images <= size)
    below = sizes[sizes.index(above) - 1]
    part = (images - below) / (above - below)
    return images * seconds[1] / (seconds[below] + part * (seconds[above] - seconds[below]))
