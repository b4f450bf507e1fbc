"""Tracks, trails and places on pictures, by the values of pixels."""

from __future__ import annotations

import itertools
from typing import Any

import cv2
import numpy as np
import pytest

from hams_services.sinks import draw_text
from hams_services.sinks.draw import annotate
from hams_services.sinks.draw_places import track_color
from hams_services.sinks.draw_plates import Caption, captions_on, name_on
from hams_services.sinks.draw_strokes import DARK, FADED, PALETTE, TRACKS, dashed_rectangle, diagonals
from hams_services.sinks.draw_words import Words, caption, captions
from hams_services.sinks.trails import TRAIL_S, Trail
from hams_shared.group.regions import Regions

GREY = 128
TRACK: dict[str, Any] = {"box": [200, 150, 300, 350], "score": 0.9, "label": "person", "track": 5}


def picture(width: int = 640, height: int = 480, level: int = GREY) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def drawn(image: np.ndarray, level: int = GREY) -> np.ndarray:
    """Where a picture that was of one level is not any more."""
    return (image != level).any(axis=-1)


def near(image: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    return (np.abs(image.astype(int) - color) <= 2).all(axis=-1)


def runs(row: np.ndarray) -> int:
    """How many pieces a row of flags has."""
    return int(np.count_nonzero(np.diff(row.astype(int), prepend=0) == 1))


def test_a_track_has_its_id_and_its_colour_wherever_it_is_in_the_list() -> None:
    other = {**TRACK, "box": [400, 150, 500, 350], "track": 9}
    color = track_color(5)
    for objects in ([TRACK, other], [other, TRACK]):
        shown = annotate(picture(), objects)
        assert near(shown, color)[250, 195:206].any()
        assert near(shown, track_color(9))[250, 395:406].any()
    badge = near(annotate(picture(), [TRACK]), color)[:140]  # above the box, filled
    rows, columns = badge.nonzero()
    assert len(rows) > 100
    inside = annotate(picture(), [TRACK])[rows.min() : rows.max(), columns.min() : columns.max()]
    assert near(inside, color).mean() > 0.5
    assert not (annotate(picture(), [TRACK]) == annotate(picture(), [{**TRACK, "track": 12}])).all()  # same colour


def test_without_tracks_nothing_is_new() -> None:
    plain = {key: value for key, value in TRACK.items() if key != "track"}
    shown = annotate(picture(), [plain])
    assert near(shown, PALETTE[0])[250, 195:206].any()
    assert (annotate(picture(), [plain], Regions(), []) == shown).all()
    assert (
        annotate(picture(), [{**plain, "zones": [], "predicted": False, "skipped": {"age": "when"}}]) == shown
    ).all()


@pytest.mark.parametrize("axis", [0, 1])
def test_predicted_boxes_are_dashed(axis: int) -> None:
    shown = annotate(picture(), [{**TRACK, "predicted": True}])
    whole = annotate(picture(), [TRACK])
    rows, columns = (slice(148, 153), slice(200, 300)) if axis == 0 else (slice(150, 350), slice(198, 203))
    assert drawn(whole)[rows, columns].any(axis=axis).all()
    side = drawn(shown)[rows, columns].any(axis=axis)
    assert 0.4 < side.mean() < 0.85
    assert runs(side) >= 4
    for y, x in itertools.product((150, 349), (200, 299)):  # corners are drawn
        assert drawn(shown)[y, x]


def test_dashes_of_a_square_in_a_square_picture_are_on_all_four_sides() -> None:
    image = picture(200, 200)
    dashed_rectangle(image, (50, 50, 150, 150), (0, 0, 255), 2)
    for turn in range(4):
        side = drawn(np.rot90(image, turn))[48:53, 50:150].any(axis=0)
        assert runs(side) >= 4
        assert not side.all()


@pytest.mark.parametrize(
    "box",
    [(-50, -40, 100, 90), (580, 440, 700, 520), (-1e6, -1e6, 1e6, 1e6), (-1e6, 100, 1e6, 200), (100, 100, 100, 100),
     (100, 100, 101, 300), (300, 300, 200, 200), (-90, -90, -50, -50)],
)  # fmt: skip
def test_dashes_are_clipped_at_the_borders(box: tuple[float, float, float, float]) -> None:
    """The same picture as a part of a larger one has."""
    image, large = picture(), picture(840, 680)
    dashed_rectangle(image, box, (0, 0, 255), 2)
    dashed_rectangle(large, tuple(value + 100 for value in box), (0, 0, 255), 2)  # type: ignore[arg-type]
    if max(map(abs, box)) < 1e5:  # else the phase of a million dashes differs by rounding
        assert (image == large[100:580, 100:740])[2:-2, 2:-2].all()  # OpenCV rounds at the border
    assert drawn(image).any() == (-50 < box[2] < 1e5 or box[1] == 100)


def test_a_track_that_has_left_the_picture_is_not_drawn() -> None:
    assert not drawn(annotate(picture(), [{**TRACK, "box": [650, 100, 700, 300], "predicted": True}])).any()
    assert drawn(annotate(picture(), [{**TRACK, "box": [630, 100, 700, 300], "predicted": True}])).any()


def trail(track: int = 5) -> Trail:
    """From the left to the right at y = 400, in `TRAIL_S`."""
    x = np.linspace(50, 600, 41)
    return Trail(track, np.stack([x, np.full(41, 400.0)], axis=1), np.linspace(TRAIL_S, 0, 41))


def test_trails_fade_with_age() -> None:
    shown = annotate(picture(), [], trails=[trail()]).astype(int)
    strength = np.abs(shown[400] - GREY).sum(axis=1)
    parts = [strength[start : start + 40].mean() for start in range(60, 580, 100)]
    assert parts == sorted(parts)
    assert 0 < parts[0] < parts[-1] / 2
    assert not drawn(shown)[:390].any()
    assert not drawn(shown)[410:].any()


def test_trails_lie_under_boxes_and_follow_an_enlarged_picture() -> None:
    box = {"box": [100, 50, 150, 90], "score": 0.9, "label": "person", "track": 5}
    way = Trail(5, np.array([[20.0, 90], [120, 90]]), np.array([0.1, 0.0]))
    shown = annotate(picture(176, 144), [box], trails=[way])
    assert shown.shape == (576, 704, 3)
    assert drawn(shown)[360, 100:400].all()


ZONES = Regions.model_validate({
    "zones": {"yard": [[0.1, 0.5], [0.6, 0.5], [0.6, 0.9], [0.1, 0.9]]},
    "lines": {"gate": [[0.7, 0.2], [0.7, 0.8]]},
    "mask": [[[0.8, 0.0], [1, 0], [1, 0.5], [0.8, 0.5]]],
})  # fmt: skip


def test_zones_lines_and_masks_are_drawn_at_relative_places() -> None:
    for width, height in ((640, 480), (1280, 720)):
        shown = drawn(annotate(picture(width, height), [], ZONES))
        assert shown[height // 2, int(0.1 * width) : int(0.6 * width)].all()  # the zone's upper side
        assert shown[int(0.5 * height) : int(0.9 * height), int(0.6 * width)].all()
        assert shown[int(0.2 * height) + 2 : int(0.8 * height) - 2, int(0.7 * width)].all()
        hatch = shown[: height // 2 - 4, int(0.8 * width) + 4 :]
        assert 0.05 < hatch.mean() < 0.5
        assert not shown[: int(0.2 * height) - 9, : int(0.8 * width) - 4].any()
        assert not shown[int(0.92 * height) :].any()


def test_the_arrow_of_a_line_is_on_its_right() -> None:
    """The gate's line runs down, so that right, seen along it, is the left of the picture."""
    shown = drawn(annotate(picture(), [], Regions(lines=ZONES.lines)))
    assert shown[240, 436:446].all()
    assert not shown[240, 453:].any()


def test_hatching_is_faint() -> None:
    shown = annotate(picture(), [], Regions(mask=ZONES.mask)).astype(int)
    strength = np.abs(shown - GREY).max(axis=-1)
    assert 10 < strength.max() < 60


def test_a_zone_with_objects_is_brighter() -> None:
    empty, busy = (annotate(picture(), [{**TRACK, "zones": zones}], ZONES) for zones in ([], ["yard"]))
    assert busy[432, 100:190].mean() > empty[432, 100:190].mean() + 20
    for odd in ("yard", [7], None, {"yard": 1}):
        annotate(picture(), [{**TRACK, "zones": odd}], ZONES)


@pytest.mark.parametrize("level", [0, 255])
def test_names_can_be_read_on_dark_and_on_light(level: int) -> None:
    shown = picture(level=level)
    plate = name_on(shown, "yard", (50, 60), (255, 255, 255))
    part = shown[plate.y : plate.y + plate.height, plate.x : plate.x + plate.width].astype(int).mean(axis=-1)
    assert part.max() - np.median(part) > 150
    corner = name_on(picture(), "x" * 300, (600, 470), (255, 255, 255))
    assert corner.x >= 0
    assert corner.x + corner.width <= 640
    assert corner.y + corner.height <= 480


CONCAVE = np.array([[0, 0], [100, 0], [100, 100], [80, 100], [80, 20], [20, 20], [20, 100], [0, 100]], float)


def test_diagonals_lie_in_the_polygon() -> None:
    """Of a U: its legs are hatched, what is between them is not."""
    found = diagonals(CONCAVE, 7.0)
    assert len(found) > 20
    for one in found:
        assert one.sum(axis=1) % 7 == pytest.approx(0, abs=1e-6) or one.sum(axis=1) % 7 == pytest.approx(7, abs=1e-6)
        assert cv2.pointPolygonTest(CONCAVE.astype(np.float32), one.mean(axis=0).tolist(), False) >= 0
    assert diagonals(CONCAVE + 0.3, 1000.0).shape == (0, 2, 2)


@pytest.mark.parametrize("size", [(16, 16), (1, 1), (4000, 30), (3840, 2160)])
def test_any_size_with_tracks_and_places(size: tuple[int, int]) -> None:
    objects = [
        {**TRACK, "box": [0.2 * size[0], 0.2 * size[1], 0.9 * size[0], 0.9 * size[1]], "predicted": p} for p in (0, 1)
    ]
    shown = annotate(picture(*size), objects, ZONES, [trail()])
    assert drawn(shown).any()
    assert shown.shape[1] >= size[0]


def test_text_and_lines_follow_the_picture() -> None:
    """Four times the pixels across: badges of 4 × 4 times the area."""
    areas = []
    for width, height in ((960, 540), (3840, 2160)):
        box = [0.3 * width, 0.3 * height, 0.5 * width, 0.9 * height]
        shown = annotate(picture(width, height), [{**TRACK, "box": box}])
        areas.append(int(near(shown, track_color(5))[: int(0.29 * height)].sum()))
    assert 11 < areas[1] / areas[0] < 22


@pytest.mark.parametrize(
    ("item", "parts"),
    [
        ({"label": "person", "score": 0.9}, [("person 90%", False)]),
        ({"label": "person", "score": 0.9, "predicted": True}, [("person 90%", True)]),
        (
            {"label": "person", "sex": {"label": "female", "from_frame": 3}, "age": {"value": 31, "unit": "years"}},
            [("female", True), ("31 y", False)],
        ),
        ({"label": "p", "who": {"identity": 4, "name": "Anna"}}, [("Anna", False)]),
        ({"label": "p", "who": {"identity": 4, "name": ""}}, [("#4", False)]),
        ({"label": "p", "identity": 4}, [("p", False), ("#4", False)]),
        ({"label": "p", "skipped": {"text": "when", "value": "when"}, "zones": ["yard"]}, [("p", False)]),
        (
            {"label": "car", "plate": {"from_frame": 1, "objects": [{"label": "plate", "text": {"text": "AB 1"}}]}},
            [("car", False), ("AB 1", True)],
        ),
    ],
)
def test_words_carried_on_are_marked(item: dict[str, Any], parts: list[tuple[str, bool]]) -> None:
    assert [tuple(part) for part in captions(item)] == parts
    assert caption(item) == " · ".join(text for text, _ in parts)


@pytest.mark.parametrize("old", [False, True])
def test_words_carried_on_are_grey(monkeypatch: pytest.MonkeyPatch, old: bool) -> None:
    if old:
        monkeypatch.setattr(draw_text, "_FACE", None)
    brightest = []
    for carried in (False, True):
        shown = picture(level=0)
        words = [Words("fresh", False), Words("carried", carried)]
        captions_on(shown, [Caption(words, (100, 100, 200, 200), (0, 0, 255))], 2)
        columns = drawn(shown, 0).any(axis=0).nonzero()[0]
        right = shown[:, (columns[0] + columns[-1]) // 2 + 10 :]
        brightest.append(int(right.min(axis=-1).max()))
        assert shown.min(axis=-1).max() > 240  # the fresh one
    assert brightest[0] > 240
    assert brightest[1] <= max(FADED) + 2


def test_a_long_caption_is_cut_and_its_grey_part_with_it() -> None:
    words = [Words("a" * 40, False), Words("b" * 90, True), Words("c", False)]
    shown = picture()
    captions_on(shown, [Caption(words, (100, 100, 200, 200), (0, 0, 255), "7")], 2)
    assert drawn(shown)[:, -20:].any()


def test_outputs_carried_on_have_words_and_no_places() -> None:
    """Points of an earlier frame are not where the object is now."""
    mesh = {"points": [[220 + i, 200 + i] for i in range(40)], "score": 0.9, "from_frame": 2}
    shown = annotate(picture(), [{**TRACK, "mesh": mesh}])
    assert not drawn(shown)[160:340, 210:290].any()
    assert drawn(annotate(picture(), [{**TRACK, "mesh": {**mesh, "from_frame": None}}]))[160:340, 210:290].any()


def luminance(color: tuple[int, int, int]) -> float:
    """Relative luminance of B, G, R, 0-1 (WCAG 2.1)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in color)]
    return 0.0722 * linear[0] + 0.7152 * linear[1] + 0.2126 * linear[2]


def test_colours_of_tracks_stand_out_from_their_dark_rim() -> None:
    """3:1 is what WCAG 2.1 asks of graphics; the rim stands out from light pictures."""
    for color in TRACKS:
        assert (luminance(color) + 0.05) / (luminance(DARK) + 0.05) >= 3
    assert 1.05 / (luminance(DARK) + 0.05) > 12


DICHROMATS = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
"""Machado, Oliveira and Fernandes, IEEE TVCG 15(6), 2009: severity 1.0, linear RGB."""


@pytest.mark.parametrize("kind", DICHROMATS)
def test_colours_of_tracks_differ_for_all_kinds_of_colour_vision(kind: str) -> None:
    rgb = np.array(TRACKS)[:, ::-1] / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(DICHROMATS[kind]).T, 0, 1)
    seen = np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)
    lab = cv2.cvtColor(seen[None].astype(np.float32), cv2.COLOR_RGB2LAB)[0]
    least = min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(lab, 2))
    assert least > 10  # CIE76; 2.3 is just noticeable
