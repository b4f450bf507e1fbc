"""Tracks on a real video: as many as there are people, steady counts, and agreement where the detector looks rarely.

The video is OpenCV's vtest.avi (768×576, 10 frames/s, 795 frames; a street, seen from above), which is not part of the
repository: Debian's opencv-doc has it. The detector is that of `examples/person-omz.yaml`, at 1024×1024. The tracks are
those of results. The detector looks at each frame twice, as it is and changed a little: three minutes of CPU time.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.tracking.bench import VIDEO
from benchmarks.tracking.cadence import GROUP, Video, read, restless

from hams_services.models.groups import load_group
from hams_services.pipeline.tracking.cadence_agreement import follow
from hams_services.pipeline.tracking.identity import Frame, idf1
from hams_shared.runtime.process import cache_folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
PLACES = (VIDEO, cache_folder() / "tracking" / VIDEO.name)
COUNTED = 200
"""Frames in which the people were counted."""


class Place(NamedTuple):
    """Where somebody is: a frame, and a point of the body in it, pixels."""

    frame: int
    x: int
    y: int


class Person(NamedTuple):
    """Somebody in the first 200 frames: where first and last seen, and once in full view."""

    look: str
    first: Place
    clear: Place
    last: Place


PEOPLE = (
    Person("dark jacket with a grey hood", Place(0, 265, 265), Place(0, 265, 265), Place(199, 718, 290)),
    Person("brown jacket, blue jeans", Place(0, 515, 195), Place(0, 515, 195), Place(199, 626, 313)),
    Person("long black coat", Place(0, 665, 280), Place(80, 272, 208), Place(150, 767, 310)),
    Person("red and blue jacket, white paper", Place(9, 765, 390), Place(80, 460, 213), Place(199, 687, 126)),
    Person("fair hair, black coat", Place(13, 766, 378), Place(80, 489, 210), Place(199, 712, 126)),
    Person("bald, dark jacket, jeans", Place(39, 765, 340), Place(80, 584, 235), Place(199, 506, 179)),
    Person("black coat, white bag, on the path behind", Place(64, 305, 72), Place(120, 174, 88), Place(174, 1, 140)),
    Person("white cap, light blue jacket", Place(113, 766, 295), Place(160, 363, 210), Place(199, 97, 185)),
    Person("striped pullover, jeans", Place(130, 764, 325), Place(190, 294, 241), Place(199, 237, 229)),
)
"""Counted by eye, in pictures of every fifth frame, and of every frame where somebody comes or goes.

None is in doubt: nobody is seen behind windows or in the cars. The first one is half hidden by the lamp's sign in
frames 40 to 150, where the third passes behind it and comes back; three go in and three come out. The one on the path
is half hidden by stairs until frame 77.
"""


@pytest.fixture(scope="module")
def video() -> Video:
    """The video, and what the detector finds in it."""
    source = next((place for place in PLACES if place.exists()), None)
    if source is None:
        pytest.skip(f"there is no {VIDEO} (Debian's opencv-doc; {PLACES[1]} is looked for, too)")
    spec = load_group(GROUP)
    if not Path(spec.nodes[spec.root].model).exists():
        pytest.skip(f"there is no {spec.nodes[spec.root].model} (Open Model Zoo, not part of the repository)")
    return read(str(source))


@pytest.fixture(scope="module")
def reference(video: Video) -> list[Frame]:
    """Tracks with the detector on every frame."""
    return follow(video.watched(), 1)


@pytest.fixture(scope="module")
def ceiling(video: Video, reference: list[Frame]) -> float:
    """IDF1 of the same tracks on frames changed by ±1 grey level and JPEG 90."""
    return idf1(reference, follow(video.watched(changed=True), 1))


def those_at(place: Place, tracks: list[Frame]) -> set[int]:
    """Return the ids of the boxes around a place."""
    ids, boxes = tracks[place.frame]
    return {id for id, (x0, y0, x1, y1) in zip(ids, boxes, strict=True) if x0 <= place.x <= x1 and y0 <= place.y <= y1}


def test_the_video_is_the_one_that_was_counted(video: Video) -> None:
    assert (len(video.times), video.size) == (795, (768, 576))


def test_everybody_has_a_track(reference: list[Frame]) -> None:
    assert [one.look for one in PEOPLE if not those_at(one.clear, reference)] == []


@pytest.mark.parametrize("every", [1, 2])
def test_ids_are_few(every: int, video: Video) -> None:
    tracks = follow(video.watched(flow=every > 1), every)
    assert len({id for ids, _ in tracks[:COUNTED] for id in ids}) <= 1.5 * len(PEOPLE)


def test_numbers_of_objects_are_steady(video: Video, reference: list[Frame]) -> None:
    untracked = restless([sum(not one.get("low") for one in objects) for objects in video.found])
    tracked = restless([len(ids) for ids, _ in reference])
    assert tracked["changes"] <= 0.5 * untracked["changes"]
    assert tracked["gaps"] <= 0.1 * untracked["gaps"]


@pytest.mark.parametrize(("every", "flow", "least"), [(2, False, 0.95), (2, True, 0.95), (5, True, 0.88)])
def test_tracks_agree_with_those_of_every_frame(
    every: int, flow: bool, least: float, video: Video, reference: list[Frame], ceiling: float
) -> None:
    """Every 2nd frame is 0.2 s between detections, every 5th is 0.5 s."""
    assert idf1(reference, follow(video.watched(flow=flow), every)) >= least * ceiling
