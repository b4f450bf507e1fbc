"""How fast a network serves a node, with batches and large frames: by hand."""

from __future__ import annotations

import pytest

from hams_scheduler.learning import EMPTY
from hams_scheduler.served_speed import (
    PIXEL_S,
    VGA,
    DeviceTable,
    ServedSpeed,
    batch_gain,
    images_at_once,
    served_speed,
)
from hams_shared.wire.messages.agents import ProfilePoint, ProfileRecord
from support.build import device, group_spec

CURVE = ((2, 1, 100.0), (1, 1, 60.0), (2, 4, 125.0), (2, 8, 160.0))
"""Lanes, batch, images/s: batches of 4 take 32 ms, of 8 take 50 ms, single images 10 ms."""


def profile(*curve: tuple[int, int, float]) -> ProfileRecord:
    points = tuple(ProfilePoint(lanes=lanes, batch=batch, fps=fps, ms=1.0) for lanes, batch, fps in curve)
    return ProfileRecord(
        digest="d", model_name="m", input_shape=(1,), fingerprint="f", runtime="r", precision="fp32",
        fps=100.0, cpu_ms=8.0, curve=points,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("images", "gain"),
    [(0.1, 1.0), (1, 1.0), (4, 1.25), (8, 1.6), (50, 1.6), (2.5, 25 / 21), (6, 60 / 41)],
)
def test_between_two_sizes_the_time_of_a_batch_grows_evenly(images: float, gain: float) -> None:
    assert batch_gain(profile(*CURVE), images) == pytest.approx(gain)


@pytest.mark.parametrize("curve", [(), ((2, 1, 100.0), (1, 1, 60.0))])
def test_nothing_is_gained_where_no_batches_were_measured(curve: tuple[tuple[int, int, float], ...]) -> None:
    assert batch_gain(profile(*curve), 8) == 1.0


@pytest.mark.parametrize(
    ("modes", "node", "weight", "lanes", "images"),
    [
        ((), "det", 1.0, 1, 1.0),  # single images of applications
        (("lossless",), "det", 1.0, 1, 8.0),
        (("lossless",), "det", 1.0, 2, 4.0),
        (("lossless",), "age", 1.0, 2, 16.0),
        (("lossless", "lossless"), "age", 2.0, 4, 32.0),
        (("lossless",), "age", 0.01, 2, 1.0),
        (("live",) * 9, "det", 4.0, 1, 2.0),  # one that is computed, and one that waits
        (("live", "live"), "age", 1.0, 1, 6.0),
        (("live", "lossless"), "age", 1.0, 1, 35.0),
    ],
)
def test_images_that_wait_for_a_lane(
    modes: tuple[str, ...], node: str, weight: float, lanes: int, images: float
) -> None:
    spec = group_spec(streams={f"s{i}": {"source": "/a.mp4", "mode": mode} for i, mode in enumerate(modes)})
    assert images_at_once(spec, node, weight, lanes) == pytest.approx(images)


@pytest.mark.parametrize(
    ("mode", "keys", "weight", "pieces", "images"),
    [
        ("live", {}, 0.2, 0.2, 1.0),  # of three frames in flight on each of 9 streams, 5.4 are for the detector
        ("lossless", {}, 0.2, 0.2, 14.4),  # of 32 on each of 9
        ("live", {"tiles": {"grid": [3, 2]}}, 6.0, 1.0, 6.0),  # the tiles of a frame come together
        ("live", {"tiles": {"grid": [3, 2]}}, 1.2, 0.2, 6.0),
    ],
)
def test_images_that_wait_where_frames_are_left_out(
    mode: str, keys: dict[str, object], weight: float, pieces: float, images: float
) -> None:
    spec = group_spec(streams={f"s{i}": {"source": "/a.mp4", "mode": mode, **keys} for i in range(9)})
    assert images_at_once(spec, "det", weight, 1, pieces=pieces) == pytest.approx(images)


def test_fewer_images_wait_where_the_network_is_slow() -> None:
    spec = group_spec(streams={"s": {"source": "/a.mp4", "mode": "lossless"}})
    assert images_at_once(spec, "age", 2.0, 1, fps=10.0) == pytest.approx(24.0)  # 12 frames in a quarter of 10 s


@pytest.mark.parametrize(("kind", "emulated", "cpu_ms"), [("cpu", False, 5.0), ("cpu", True, 8.0), ("gpu", False, 8.0)])
def test_only_a_cpu_that_computes_saves_cpu_time(kind: str, emulated: bool, cpu_ms: float) -> None:
    spec = group_spec(streams={"s": {"source": "/a.mp4", "mode": "lossless"}})
    record = device("h.b.u", kind=kind).model_copy(update={"emulated": emulated})
    served = served_speed(profile(*CURVE), record, spec, "age", 1.0)
    assert (served.fps, served.batch) == (pytest.approx(160.0), 8.0)
    assert served.cpu_s == pytest.approx(cpu_ms / 1e3)


@pytest.mark.parametrize(
    ("node", "lanes", "fps", "cpu_ms"),
    [("det", 1, 100.0, 9.0), ("det", 2, 1 / (0.01 + 0.001 / 2), 9.0), ("age", 2, 100.0, 8.0)],
)
def test_large_frames_cost_the_root_cpu_time(node: str, lanes: int, fps: float, cpu_ms: float) -> None:
    record = device("h.b.u").model_copy(update={"lanes": lanes})
    served = served_speed(profile(), record, group_spec(), node, 1.0, VGA + 1e6)
    assert pytest.approx(0.001) == PIXEL_S * 1e6
    assert (served.fps, served.cpu_s) == (pytest.approx(fps), pytest.approx(cpu_ms / 1e3))
    assert served_speed(profile(), record, group_spec(), node, 1.0, 100.0) == ServedSpeed(100.0, 0.008)


@pytest.mark.parametrize(
    ("weight", "batch", "parts"),
    [
        (1.0, 1.0, 1.0),
        (2.0, 1.0, EMPTY / 2 + 1 - EMPTY),
        (0.1, 1.0, 9 * EMPTY + 1),
        (1.0, 8.0, EMPTY + 0.0875),
    ],
)
def test_a_message_is_shared_by_its_images_and_a_batch_is_handled_once(
    weight: float, batch: float, parts: float
) -> None:
    assert ServedSpeed(100.0, 0.008, batch).message_s(0.001, weight) == pytest.approx(0.001 * parts)


@pytest.mark.parametrize(
    ("cores", "kind", "seconds"),
    [((0,), "cpu", 0.0102), ((0, 1), "cpu", 0.010), ((), "cpu", 0.010), ((0,), "gpu", 0.010)],
)
def test_what_an_agent_does_beside_its_networks_takes_the_device_its_cores(
    cores: tuple[int, ...], kind: str, seconds: float
) -> None:
    """10 ms of the device per image, 9 ms of a core, and 3 ms for the message; all cores are not known here."""
    record = device("h.b.u", cores=cores, kind=kind)
    assert ServedSpeed(100.0, 0.009).device_s(record, 0.003) == pytest.approx(seconds)


@pytest.mark.parametrize("node", ["det", "age"])
def test_all_devices_at_once_are_each_by_itself(node: str) -> None:
    spec = group_spec(streams={"s": {"source": "/a.mp4", "mode": "lossless"}})
    kinds = [("cpu", 1, 4.0), ("cpu", 2, 0.0), ("gpu", 4, 8.0), ("npu", 1, 0.0)]
    devices = [
        device(f"h.ov.{kind}{i}", cores=(), kind=kind).model_copy(update={"lanes": lanes, "host_cores": cores})
        for i, (kind, lanes, cores) in enumerate(kinds)
    ]
    messages = [0.001, 0.0, 0.002, 0.0005]
    profiles = [profile(*CURVE), profile(), profile(*CURVE), profile().model_copy(update={"cpu_ms": 0.0})]
    table = DeviceTable(devices, messages)
    for weight, pieces in ((0.1, 1.0), (1.0, 1.0), (5.0, 1.0), (0.4, 0.2)):
        for pixels in (VGA, VGA + 2e6):
            at = [3, 0, 2, 1]
            chosen = [profiles[j] for j in at]
            device_s, network_s, message_s = table.served(at, chosen, spec, node, weight, pixels, pieces)
            for index, j in enumerate(at):
                one = served_speed(profiles[j], devices[j], spec, node, weight, pixels, pieces)
                message = one.message_s(messages[j], weight / pieces)
                expected = (one.device_s(devices[j], message), one.cpu_s, message)
                assert (device_s[index], network_s[index], message_s[index]) == pytest.approx(expected)
