"""CPU time per frame of the tracker and of the flow. The least of many short turns counts: others disturb."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import cv2
import numpy as np

from hams_services.pipeline.luma import small_luma
from hams_services.pipeline.tracking.bytetrack import Detections, Tracker
from hams_services.pipeline.tracking.flow import Flow

FRAMES, TURN, FPS = 2000, 10, 25
SIZE = (1920, 1080)


def scene(objects: int) -> list[Detections]:
    """Return frames with walkers, of whom a tenth is missed and a part has low scores."""
    random = np.random.default_rng(0)
    place, speed = random.uniform(0, 1800, (objects, 2)), random.normal(0, 40, (objects, 2))
    half = random.uniform(20, 60, (objects, 1)) * np.array([[1, 2.5]])
    labels, frames = np.full(objects, "person", object), []
    for number in range(FRAMES):
        centre = place + speed * number / FPS + random.normal(0, 2, (objects, 2))
        there = random.random(objects) > 0.1
        boxes, scores = np.concatenate((centre - half, centre + half), axis=1), random.uniform(0.2, 1, objects)
        frames.append(Detections(boxes[there], scores[there], labels[there]))
    return frames


def turns(call: Callable[..., Any], given: list[tuple[Any, ...]]) -> tuple[float, float]:
    """Return the least and the median CPU time of `call` over turns of TURN calls, ms."""
    spent = []
    for start in range(0, len(given), TURN):
        begun = time.process_time()
        for arguments in given[start : start + TURN]:
            call(*arguments)
        spent.append((time.process_time() - begun) / TURN * 1e3)
    return min(spent), median(spent)


def cost(objects: int) -> dict[str, tuple[float, float]]:
    """Return the least and the median ms of an update, a prediction and a step of the flow."""
    tracker = Tracker()
    update = turns(tracker.update, [(frame, number / FPS) for number, frame in enumerate(scene(objects))])
    end = FRAMES / FPS
    predict = turns(tracker.predict_to, [(end + number / 1e5,) for number in range(FRAMES)])
    return {"update": update, "predict": predict, "flow": _flow(objects)}


def _flow(objects: int) -> tuple[float, float]:
    """Of a step with the reduction of a 1080p image; one thread."""
    cv2.setNumThreads(1)
    random = np.random.default_rng(0)
    noise = cv2.GaussianBlur(random.integers(0, 256, (1200, 2000)).astype(np.uint8), (0, 0), 6) * 3
    images = [cv2.merge([noise[n * 4 : n * 4 + 1080, n * 7 : n * 7 + 1920]] * 3) for n in range(10)]
    corner = random.uniform(0, 0.8, (objects, 2)) * SIZE
    boxes = np.concatenate((corner, corner + np.array([90, 220])), axis=1)
    flow = Flow()
    return turns(lambda image: flow.step(small_luma(image), boxes, SIZE), [(images[n % 10],) for n in range(200)])
