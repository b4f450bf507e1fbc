from __future__ import annotations

import json
from typing import Any

import cv2
import numpy as np
import pytest

from hams_agents.tasks.base import DescriptionTask
from hams_agents.tasks.head_pose import DISTANCE_CM, FACING, INDICES, MESH_POINTS, MODEL, head_pose
from hams_agents.tasks.registry import build_task, gives_objects, is_detection, used_outputs
from hams_shared.errors import TaskError
from hams_shared.group.node_spec import InputSpec, TaskSpec

IDENTITY = np.eye(2, 3)


def task(kind: str, size: tuple[int, int] = (64, 32), **params: Any) -> DescriptionTask:
    built = build_task(TaskSpec.model_validate({"type": kind, **params}), InputSpec(size=size))
    assert not is_detection(built)
    return built


def describe(built: DescriptionTask, **outputs: Any) -> list[dict[str, Any]]:
    arrays = {name: np.asarray(value, np.float32) for name, value in outputs.items()}
    found = built.describe(arrays, [IDENTITY] * len(next(iter(arrays.values()))))
    json.dumps(found)  # plain values only
    return found


def test_classification() -> None:
    plain = task("classification", labels=["a", "b"], activation="none")
    assert describe(plain, p=[[0.2, 0.8], [0.9, 0.1]]) == [{"label": "b", "score": 0.8}, {"label": "a", "score": 0.9}]
    assert describe(plain, p=np.empty((0, 2))) == []
    logits = task("classification", labels=["a", "b"])
    assert describe(logits, p=[[0, 0.0]]) == [{"label": "a", "score": 0.5}]
    assert describe(logits, p=[[[[1000]], [[-1000]]]]) == [{"label": "a", "score": 1.0}]


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        ({"p": [[0.1, 0.2, 0.7]]}, "expected 1×2"),
        ({"p": [[np.nan, 0.2]]}, "not finite"),
        ({"p": [[5, -3]]}, "reaches from -3 to 5.*`activation`"),
        ({"p": [[0.5, 0.5]], "q": [[1]]}, "2 outputs.*name one"),
    ],
)
def test_classification_outputs_that_do_not_fit(outputs: dict[str, Any], text: str) -> None:
    with pytest.raises(TaskError, match=text):
        describe(task("classification", labels=["a", "b"], activation="none"), **outputs)


def test_a_scalar_or_a_wrong_batch_is_an_error() -> None:
    built = task("classification", labels=["a", "b"])
    for wrong in (np.float32(1), np.zeros((2, 2), np.float32)):
        with pytest.raises(TaskError, match="for 1 images"):
            built.describe({"p": np.asarray(wrong)}, [IDENTITY])


def test_expectation() -> None:
    ages = np.zeros((2, 81))
    ages[0, [30, 32]] = 0.5
    ages[1, 80] = 0.25  # a quantised network: the sum is not 1
    built = task("expectation", classes=81, activation="none", unit="years")
    assert describe(built, p=ages) == [{"value": 31.0, "unit": "years"}, {"value": 80.0, "unit": "years"}]
    assert describe(task("expectation", classes=3, first=10, step=5), p=[[0, 0, 0]]) == [{"value": 15.0}]
    with pytest.raises(TaskError, match="expected 1×81"):
        describe(built, p=[[1.0, 0.0]])


def test_regression() -> None:
    assert describe(task("regression", scale=100), age=[[[[0.25]]]]) == [{"value": 25.0}]
    assert describe(task("regression", offset=1), v=[[1, 2]]) == [{"value": [2.0, 3.0]}]
    angles = task("regression", outputs={"yaw": "y_fc", "roll": "r_fc"}, unit="degrees")
    assert describe(angles, y_fc=[[1.5]], p_fc=[[0]], r_fc=[[-2]]) == [{"yaw": 1.5, "roll": -2.0, "unit": "degrees"}]
    with pytest.raises(TaskError, match=r"no output 'y'.*known: v"):
        describe(task("regression", output="y"), v=[[1]])
    with pytest.raises(TaskError, match="either output or outputs"):
        task("regression", output="a", outputs={"b": "c"})


def test_landmarks_in_frame_pixels() -> None:
    built = task("landmarks", points=2, dims=3, output="p", score_output="s")
    out = {"p": np.array([[[[1, 2, 9, 3, 4, 9]]]], np.float32), "s": np.zeros((1, 1, 1, 1), np.float32)}
    (item,) = built.describe(out, [np.array([[2.0, 0, 10], [0, 2.0, 20]])])
    assert item == {"points": [[12, 24], [16, 28]], "score": 0.5}
    (item,) = describe(task("landmarks", points=2, normalized=True), p=[[0.5, 0.5, 1, 1]])
    assert item == {"points": [[32, 16], [64, 32]]}
    with pytest.raises(TaskError, match="expected 1×4"):
        describe(task("landmarks", points=2), p=[[1, 2, 3]])
    with pytest.raises(TaskError, match="468"):
        task("landmarks", points=5, head_pose=True)


def test_landmarks_read_the_outputs_they_name() -> None:
    outputs = {name: np.zeros((1, 4), np.float32) for name in ("p", "s", "more")}
    assert used_outputs(task("landmarks", points=2, output="p"), outputs) == {"p": None}
    assert used_outputs(task("landmarks", points=2, output="p", score_output="s"), outputs) == {"p": None, "s": None}
    only = {"p": outputs["p"]}
    assert used_outputs(task("landmarks", points=2), only) == {"p": None}
    assert used_outputs(task("raw"), outputs) == {"p": None, "s": None, "more": None}


def mesh(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """A face as the plain camera sees it from 60 cm, points it does not use far off."""
    around = [np.radians(v) for v in ([0, 0, roll], [0, -yaw, 0], [-pitch, 0, 0])]
    rotation = np.linalg.multi_dot([cv2.Rodrigues(v)[0] for v in around])
    turned = (MODEL - MODEL.mean(axis=0)) @ (rotation @ FACING).T + (0, 0, DISTANCE_CM)
    points = np.full((MESH_POINTS, 2), 1e5)
    points[INDICES] = turned[:, :2] / turned[:, 2:] * 900 + (300, 200)
    return points


@pytest.mark.parametrize(
    "angles", [(0, 0, 0), (30, 0, 0), (-45, 0, 0), (0, 20, 0), (0, -25, 0), (0, 0, 40), (0, 0, -170), (25, -15, 30)]
)
def test_head_pose_of_a_known_head(angles: tuple[float, float, float]) -> None:
    pose = head_pose(mesh(*angles))
    assert pose is not None
    assert np.allclose([pose["yaw"], pose["pitch"], pose["roll"]], angles, atol=3)


def test_head_pose_signs() -> None:
    """Looking to the image's right moves the nose (1) right of the middle of the eyes (33, 263)."""
    right, up = mesh(30, 0, 0), mesh(0, 20, 0)
    assert right[1, 0] > right[[33, 263], 0].mean() + 20
    assert up[1, 1] < mesh(0, 0, 0)[1, 1] - 20
    tilted = mesh(0, 0, 20)
    assert tilted[263, 1] > tilted[33, 1]


def test_turning_the_image_changes_roll_only() -> None:
    points = mesh(20, 10, 5)
    angle = np.radians(30)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    before, after = head_pose(points), head_pose(points @ turn.T)
    assert before is not None
    assert after is not None
    assert np.allclose([after["yaw"], after["pitch"], after["roll"] - 30], list(before.values()), atol=0.3)


@pytest.mark.parametrize("points", [np.zeros((468, 2)), np.full((468, 2), np.nan), np.full((468, 2), 7.0)])
def test_points_that_are_no_face_have_no_pose(points: np.ndarray) -> None:
    assert head_pose(points) is None


def test_raw() -> None:
    (item,) = describe(task("raw"), a=[[[1, 2], [3, np.nan]]], b=[[7]])
    assert item == {"a": {"shape": [2, 2], "values": [1, 2, 3, None]}, "b": {"shape": [1], "values": [7]}}
    (item,) = describe(task("raw", max_values=1), a=[[1, 2]])
    assert item == {"a": {"shape": [2], "values": [1], "truncated": True}}
    with pytest.raises(TaskError, match="for 1 images"):
        task("raw").describe({"a": np.array([1, 2], np.float32)}, [IDENTITY])


def test_parts_of_landmarks() -> None:
    parts = {"left": [0, 1], "right": [3, 2]}
    built = task("landmarks", points=4, parts=parts, score_output="s", output="p", score_activation="none")
    assert gives_objects(built)
    points = np.array([[[2, 5], [8, 13], [20, 5], [20, 5]]] * 2, np.float32)
    seen, unseen = built.describe(
        {"p": points, "s": np.array([[0.9], [0.4]], np.float32)}, [np.array([[2.0, 0, 0], [0, 2.0, 100]])] * 2
    )
    (left,) = seen["objects"]  # the right one's points coincide
    assert (left.label, left.score) == ("left", pytest.approx(0.9))
    assert left.points.tolist() == [[4, 110], [16, 126]]
    assert np.allclose(left.box, (10 - 10, 118 - 10, 10 + 10, 118 + 10))  # they are 20 pixels apart
    assert unseen["objects"] == []
    assert not gives_objects(task("landmarks", points=4))
    assert "objects" not in describe(task("landmarks", points=1), p=[[1, 2]])[0]


EYE = {"output": "o", "points": 4, "corners": [0, 2], "lids": [[1, 3]]}


def test_how_far_an_eye_is_open() -> None:
    built = task("landmarks", points=1, dims=3, output="p", openness=EYE)
    assert used_outputs(built, {n: np.zeros((1, 3), np.float32) for n in "opx"}) == {"o": None, "p": None}
    outline = [[0, 0, 0, 5, 3, 9, 10, 0, 0, 5, -1, 9], [0, 0, 0, 0, 1, 0, 0, 4, 0, 0, 1, 0], [0] * 12]
    wide, shut, nothing = describe(built, p=[[1, 2, 3]] * 3, o=outline)
    assert (wide["open"], shut["open"], nothing["open"]) == (0.4, 0.0, 0.0)
    assert "open" not in describe(task("landmarks", points=1), p=[[1, 2]])[0]
    with pytest.raises(TaskError, match="no output 'o'"):
        describe(built, p=[[1, 2, 3]])


@pytest.mark.parametrize("wrong", [{"corners": [0, 4]}, {"lids": [[1, 3], [2, 7]]}])
def test_an_outline_has_its_points(wrong: dict[str, Any]) -> None:
    with pytest.raises(TaskError, match="openness needs points from 0 to 3"):
        task("landmarks", points=1, openness={**EYE, **wrong})


@pytest.mark.parametrize("indices", [[0], [1, 1], [0, 4], []])
def test_parts_that_are_none(indices: list[int]) -> None:
    with pytest.raises(TaskError, match="part eye needs two or more points from 0 to 3"):
        task("landmarks", points=4, parts={"eye": indices})
