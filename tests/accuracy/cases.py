"""What is looked at: the example groups, their videos, and pictures out of wheels."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from accuracy.compare import Comparison, Difference, Item, Tolerance, brief
from accuracy.group import Bend, Group, frames_of
from hams_agents.tasks.registry import with_lower_threshold
from hams_services.models.groups import load_group
from hams_shared.group.spec import GroupSpec
from hams_shared.wire.frames import Pixels
from support.plates import corners, plate, put
from support.zoo import ASTRONAUT, parked_car, real

EXAMPLES = Path(__file__).parents[2] / "examples"
EXPECTED = Path(__file__).parent / "expected"
MAN = ASTRONAUT.replace("astronaut", "camera")
MOTORCYCLE = ASTRONAUT.replace("astronaut", "motorcycle_left")

Frames = Iterator[tuple[int, Pixels]]
Feed = Callable[[GroupSpec], Frames]
Answers = dict[str, list[Item]]
"""Feed → frames with their objects."""


@dataclass(frozen=True)
class Case:
    """A group, and what it is shown."""

    group: str
    feeds: dict[str, Feed]
    tolerances: dict[str, Tolerance] = field(default_factory=dict)
    """Of nodes that have others than usual."""

    @property
    def path(self) -> Path:
        """Where its expectations are."""
        return EXPECTED / f"{self.group}.json"

    def spec(self) -> GroupSpec:
        """The example."""
        return load_group(EXAMPLES / f"{self.group}.yaml")

    def absent(self) -> str:
        """Name a file that is not here, and is not part of HAMS; empty when all are."""
        spec = self.spec()
        named = [node.model for node in spec.nodes.values()] + [stream.source for stream in spec.streams.values()]
        return next((one for one in named if ":" not in one and not Path(one).exists()), "")

    def expected(self) -> dict[str, Any]:
        """Read what was recorded."""
        recorded: dict[str, Any] = json.loads(self.path.read_text())
        return recorded

    def comparison(self, thresholds: dict[str, float], limit: float = 1.0) -> Comparison:
        """Return an empty one with this group's tolerances."""
        return Comparison(thresholds, {n: self.tolerances.get(n, Tolerance()) for n in self.spec().nodes}, limit)

    def compare(self, comparison: Comparison, expected: Answers, found: Answers) -> None:
        """Compare all frames."""
        root = self.spec().root
        for name, frames in expected.items():
            shown, known = ([(one["frame"], *one["size"]) for one in told] for told in (found[name], frames))
            if shown != known:
                comparison.differences.append(
                    Difference(f"{name}: the frames (number, width, height) are {shown}, not {known}")
                )
                continue
            for want, have in zip(frames, found[name], strict=True):
                comparison.objects(f"{name} {want['frame']}", root, want["objects"], have["objects"])


def answers(group: Group, feeds: dict[str, Frames], bend: Bend = lambda work: work) -> Answers:
    """Return what the group tells of each feed's frames."""
    return {
        name: [
            {
                "frame": number,
                "size": [image.shape[1], image.shape[0]],
                "objects": brief(group.objects(image, bend)),
            }
            for number, image in frames
        ]
        for name, frames in feeds.items()
    }


def thresholds_of(spec: GroupSpec) -> dict[str, float]:
    """Return the least score of an object, for each node that finds some."""
    found: dict[str, float] = {}
    for name, node in spec.nodes.items():
        _, threshold = with_lower_threshold(node.task, 0.0)
        if threshold is not None:
            found[name] = threshold
        elif "parts" in node.task.params:
            found[name] = float(node.task.params.get("parts_score", 0.5))
    return found


# ── feeds ────────────────────────────────────────────────────────────────────────────────────────────────────────


def video(*numbers: int) -> Feed:
    """Frames of the group's own stream."""
    return lambda spec: frames_of(next(iter(spec.streams.values())).source, numbers)


def picture(source: str) -> Feed:
    """A picture out of a wheel, read as a source reads it."""
    return lambda spec: frames_of(str(real(source)), (0,))


def drawn(draw: Callable[[], Pixels]) -> Feed:
    """A picture that is made."""
    return lambda spec: iter([(0, draw())])


def crowd() -> Pixels:
    """One face many times: tilted, small, and ever more blurred, down to what the detector just does not find."""
    face = np.asarray(cv2.imread(str(real(ASTRONAUT))))[:300, 100:400]
    canvas = np.full((960, 1280, 3), 96, np.uint8)
    for index, (side, angle, blur) in enumerate(_FACES):
        one = cv2.warpAffine(face, cv2.getRotationMatrix2D((150, 150), angle, 1.0), (300, 300))
        one = cv2.GaussianBlur(one, (0, 0), blur) if blur else one
        x, y = index % 4 * 320, index // 4 * 320
        canvas[y : y + side, x : x + side] = cv2.resize(one, (side, side), interpolation=cv2.INTER_AREA)
    return canvas


_FACES = (
    *((300, angle, 0.0) for angle in (0, 25, -25)),
    *((300, 0, blur) for blur in (6.0, 9.3, 10.4)),  # found with 0.81, 0.57, not found
    *((side, 0, 0.0) for side in (160, 120)),
)
"""Side in pixels, angle in degrees, blur in pixels."""


def parked(width: float, tilt: float = 0.05, blur: float = 0.0, contrast: float = 1.0) -> Feed:
    """A car seen from behind, with a plate of so many pixels drawn in."""
    paint = plate("B7K291M")
    paint = cv2.GaussianBlur(paint, (0, 0), blur) if blur else paint
    paint = (paint * contrast + 70 * (1 - contrast)).astype(np.uint8)
    return lambda spec: iter([(0, put(parked_car(), paint, corners((592, 396), width, tilt)))])


EMOTION = Tolerance(score=0.05)
"""Its weights are INT8: where a processor has VNNI OpenVINO may round activations, too."""
POSE = Tolerance(score=0.1, points=0.04)
"""Limbs that cannot be seen are guessed."""

CASES = {
    case.group: case
    for case in (
        Case(
            "face",
            {"carphone": video(*range(0, 120, 10)), "astronaut": picture(ASTRONAUT), "crowd": drawn(crowd)},
            {"emotion": EMOTION},
        ),
        Case(
            "person",
            {
                "street": video(0, 30, 40, 80, 109, 110, 121, 133, 193, 220),
                "astronaut": picture(ASTRONAUT),
                "man": picture(MAN),
            },
            {"pose": POSE},
        ),
        Case(
            "vehicle",
            {
                "street": video(0, 30, 50, 70, 80, 100, 115, 130, 145, 175, 190),
                "parked": parked(120),
                "askew": parked(120, tilt=0.4),
                "blurred": parked(90, tilt=0.15, blur=11),
                "faint": parked(90, tilt=0.15, blur=8, contrast=0.33),  # 0.57
                "too faint": parked(90, tilt=0.15, blur=8, contrast=0.3),  # 0.44
                "motorcycle": picture(MOTORCYCLE),
            },
        ),
        Case("person-omz", {"hall": video(0, 80, 100, 160, 180, 240, 260, 300, 340)}),
        Case("vehicle-omz", {"parking": video(0, 200, 220, 320, 330), "parked": parked(120)}),
    )
}
