"""The motion gate opens for what moves, and for nothing else."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hams_services.pipeline.gate import MotionGate
from hams_services.pipeline.luma import Luma
from hams_shared.group.regions import GateSpec

ROOM = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (216, 384)).astype(np.uint8), (0, 0), 4)
ROOM = cv2.normalize(ROOM, None, 30, 200, cv2.NORM_MINMAX)
"""A scene with contrast."""
QUIET = GateSpec(min_fps=0, hold_s=1)
FPS = 10


def played(gate: MotionGate, seconds: float, image: Callable[[float], NDArray[np.generic]], since: float = 0) -> list:
    """Show the gate `image(t)` for some time; return at which times a frame was computed."""
    times = since + np.arange(round(seconds * FPS)) / FPS
    return [float(t) for t in times if gate.take(np.clip(image(t), 0, 255).astype(np.uint8), float(t))]


def noise(levels: float) -> Callable[[float], NDArray[np.generic]]:
    random = np.random.default_rng(1)
    grain = [random.normal(0, levels, ROOM.shape) for _ in range(20)]
    return lambda t: ROOM + np.roll(grain[random.integers(20)], random.integers(0, 300, 2), (0, 1))


def walker(t: float, speed: float = 30, size: tuple[int, int] = (8, 20)) -> Luma:
    """A person of `size` pixels walks over the scene."""
    image, x = ROOM.copy(), int(t * speed) % 360
    image[100 : 100 + size[1], x : x + size[0]] = 250
    return image


def test_the_first_frame_opens_and_a_still_scene_closes_after_the_hold() -> None:
    assert played(MotionGate(QUIET), 5, lambda _: ROOM) == [t / FPS for t in range(11)]


def test_what_moves_holds_the_gate_open_and_for_the_hold_time_after() -> None:
    gate = MotionGate(QUIET)
    played(gate, 5, lambda _: ROOM)
    assert len(played(gate, 10, walker, 5)) == 100
    assert gate.changed > QUIET.area
    after = played(gate, 20, lambda _: ROOM, 15)
    assert 1.0 <= len(after) / FPS <= 4.0  # the last place is left, and the reference takes a second to follow


def test_slow_motion_adds_up() -> None:
    gate = MotionGate(QUIET)
    played(gate, 5, lambda _: ROOM)
    assert len(played(gate, 20, lambda t: walker(t, speed=2), 5)) >= 150


@pytest.mark.parametrize("levels", [2, 5])
def test_noise_does_not_open_it(levels: float) -> None:
    gate = MotionGate(QUIET)
    played(gate, 3, noise(levels))
    assert played(gate, 30, noise(levels), 3) == []


@pytest.mark.parametrize(
    "light",
    [
        lambda t: ROOM * (1 - 0.5 * min(t / 20, 1)),  # dusk
        lambda t: ROOM * (1.3 if t > 10 else 1.0),  # the exposure
        lambda t: ROOM * (1 + 0.05 * np.sin(37 * t)),  # flicker
        lambda t: ROOM * 0.8 + 30 * (t > 10),  # fog
    ],
)
def test_a_light_that_is_the_same_everywhere_does_not_open_it(light: Callable[[float], NDArray[np.generic]]) -> None:
    gate = MotionGate(QUIET)
    played(gate, 3, lambda _: light(0))
    assert played(gate, 30, light, 3) == []


def test_a_light_switched_on_at_one_side_closes_again() -> None:
    gate, lamp = MotionGate(QUIET), np.linspace(0, 90, 384)[None]
    played(gate, 5, lambda _: ROOM)
    opened = played(gate, 60, lambda _: ROOM + lamp, 5)
    assert opened
    assert opened[-1] < 10


def test_what_stays_closes_again_and_opens_when_it_leaves() -> None:
    gate = MotionGate(QUIET)
    played(gate, 5, lambda _: ROOM)
    assert max(played(gate, 30, lambda _: walker(3), 5)) < 10
    assert played(gate, 5, lambda _: ROOM, 35)[0] == 35


@pytest.mark.parametrize("where", ["gate", "stream"])
def test_masks(where: str) -> None:
    mask = (((0.0, 0.4), (1.0, 0.4), (1.0, 0.6), (0.0, 0.6)),)
    spec = QUIET.model_copy(update={"mask": mask}) if where == "gate" else QUIET
    gate = MotionGate(spec, mask if where == "stream" else ())
    played(gate, 3, lambda _: ROOM)
    assert played(gate, 10, walker, 3) == []
    assert len(played(gate, 10, lambda t: walker(t, size=(8, 60)), 13)) == 100  # reaches beyond it


def test_where_all_is_masked_only_the_least_rate_is_computed() -> None:
    everything = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    gate = MotionGate(GateSpec(min_fps=1, hold_s=0), (everything, everything))
    assert len(played(gate, 10, walker)) == 10


def test_another_size_and_a_clock_set_back_start_anew() -> None:
    gate = MotionGate(QUIET)
    played(gate, 10, lambda _: ROOM)
    small = np.asarray(cv2.resize(ROOM, (192, 108)), np.uint8)
    assert not gate.take(ROOM, 10.0)
    assert gate.take(small, 10.1)
    played(gate, 5, lambda _: small, 10.2)
    assert not gate.take(small, 15.2)
    assert gate.take(small, 2.0)


@pytest.mark.parametrize("grey", [0, 255])
def test_scenes_without_contrast(grey: int) -> None:
    gate, random = MotionGate(QUIET), np.random.default_rng(0)
    scene = np.full((216, 384), grey, np.uint8)
    played(gate, 3, lambda _: scene)
    assert played(gate, 10, lambda _: scene + random.normal(0, 2, scene.shape), 3) == []


@given(st.lists(st.floats(0.01, 0.5), min_size=20, max_size=200), st.sampled_from([0.2, 0.5, 1.0, 3.0, 7.0]))
def test_the_least_rate(gaps: list[float], fps: float) -> None:
    """Where frames come often enough, `min_fps` are computed on average; else all."""
    gate, image = MotionGate(GateSpec(min_fps=fps, hold_s=0)), np.zeros((4, 4), np.uint8)
    times = np.cumsum([0.0, *gaps])
    taken = [float(t) for t in times if gate.take(image, float(t))]
    span, period, longest = float(times[-1]), 1 / fps, max(gaps)
    assert all(after - before <= period + longest + 1e-6 for before, after in pairwise(taken))
    if longest <= period:
        assert span * fps - 1 - longest * fps - 1e-6 <= len(taken) <= span * fps + 1 + 1e-6
