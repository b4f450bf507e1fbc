"""Tasks that tell several things, or a vector."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from hams_agents.tasks.base import DescriptionTask
from hams_agents.tasks.registry import build_task, is_detection
from hams_shared.errors import TaskError
from hams_shared.group.node_spec import InputSpec, TaskSpec

IDENTITY = np.eye(2, 3)
COLOR = {"output": "color", "labels": ["white", "red", "blue"]}


def task(type_: str, **params: Any) -> DescriptionTask:
    built = build_task(TaskSpec.model_validate({"type": type_, **params}), InputSpec(size=(8, 8)))
    assert not is_detection(built)
    return built


def test_classes_of_several_outputs() -> None:
    of = task(
        "attributes",
        classes={"color": COLOR, "type": {"output": "t", "labels": ["car", "bus"], "activation": "softmax"}},
    )
    outputs = {
        "color": np.array([[0.1, 0.7, 0.2], [0.8, 0.1, 0.1]], np.float32).reshape(2, 3, 1, 1),
        "t": np.array([[0.0, 2.0], [1.0, 0.0]], np.float32),
    }
    first, second = of.describe(outputs, [IDENTITY, IDENTITY])
    assert first["attributes"]["color"] == {"label": "red", "score": pytest.approx(0.7)}
    assert first["attributes"]["type"] == {
        "label": "bus",
        "score": pytest.approx(math.exp(2) / (1 + math.exp(2)), abs=1e-4),
    }
    assert (second["attributes"]["color"]["label"], second["attributes"]["type"]["label"]) == ("white", "car")


def test_flags_of_one_output() -> None:
    of = task("attributes", flags={"names": ["hat", "bag"], "activation": "sigmoid"})
    [said] = of.describe({"o": np.array([[0.0, 3.0]], np.float32)}, [IDENTITY])
    assert said == {"attributes": {"hat": 0.5, "bag": pytest.approx(1 / (1 + math.exp(-3)), abs=1e-4)}}


def test_points_that_go_with_them() -> None:
    of = task("attributes", flags={"names": ["hat"], "output": "f"}, points={"top": "p", "bottom": "q"})
    outputs = {
        "f": np.array([[0.5]], np.float32),
        "q": np.array([[0.5, 0.75]], np.float32).reshape(1, 2, 1, 1),
        "p": np.array([[0.25, 0.5]], np.float32).reshape(1, 2, 1, 1),
    }
    [said] = of.describe(outputs, [np.array([[2.0, 0.0, 100.0], [0.0, 1.0, 10.0]])])  # crop of 8×8 pixels
    assert said == {
        "attributes": {"hat": 0.5},
        "points": [[104.0, 14.0], [108.0, 16.0]],
        "point_names": ["top", "bottom"],
    }


def test_flags_that_are_no_probabilities_are_named() -> None:
    with pytest.raises(TaskError, match=r"from -3 to 2, no probabilities .*activation"):
        task("attributes", flags={"names": ["a", "b"]}).describe({"o": np.array([[-3, 2]], np.float32)}, [IDENTITY])


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({}, "no output would be used"),
        ({"classes": {"color": COLOR}, "flags": {"names": ["color"]}}, "among classes and flags"),
        ({"classes": {"color": {"labels": ["a", "b"]}}}, "output"),
    ],
)
def test_wrong_parameters_are_named(params: dict[str, Any], text: str) -> None:
    with pytest.raises(TaskError, match=text):
        task("attributes", **params)


def test_an_embedding_has_length_one_whatever_the_network_says() -> None:
    of = task("embedding", gallery={"threshold": 0.5})
    outputs = {"o": np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)}
    assert of.describe(outputs, [IDENTITY, IDENTITY]) == [{"embedding": [0.6, 0.8]}, {"embedding": [0.0, 0.0]}]
    with pytest.raises(TaskError, match="threshold"):
        task("embedding", gallery={"threshold": 2})


def test_points_of_a_body_with_their_visibility() -> None:
    of = task("landmarks", points=3, dims=4, first=2, visibility=3, output="p")
    values = np.array([[1, 2, 9, 0, 3, 4, 9, 2, 5, 6, 9, 9]], np.float32)
    [said] = of.describe({"p": values}, [IDENTITY])
    assert said == {"points": [[1, 2], [3, 4]], "visibility": [0.5, pytest.approx(1 / (1 + math.exp(-2)), abs=1e-3)]}
    with pytest.raises(TaskError, match="visibility 3"):
        task("landmarks", points=3, visibility=3)
