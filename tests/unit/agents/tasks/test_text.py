from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hams_agents.tasks.base import DescriptionTask
from hams_agents.tasks.registry import build_task, is_detection
from hams_shared.errors import TaskError
from hams_shared.group.node_spec import InputSpec, TaskSpec

IDENTITY = np.eye(2, 3)


def task(metadata: dict[str, str] | None = None, **params: Any) -> DescriptionTask:
    built = build_task(TaskSpec.model_validate({"type": "text", **params}), InputSpec(size=(64, 32)), metadata)
    assert not is_detection(built)
    return built


def steps(classes: int, *path: int, sure: float = 0.9) -> np.ndarray:
    """T×K probabilities whose best classes are `path`."""
    table = np.full((len(path), classes), (1 - sure) / (classes - 1), np.float32)
    table[np.arange(len(path)), list(path)] = sure
    return table


def read(built: DescriptionTask, *images: np.ndarray) -> list[dict[str, Any]]:
    return built.describe({"y": np.stack(images)}, [IDENTITY] * len(images))


def test_repetitions_and_blanks_go() -> None:
    built = task(characters="AB")
    assert read(built, steps(3, 0, 1, 1, 0, 1, 2, 2, 0)) == [{"text": "AAB", "score": 0.9}]
    assert read(built, steps(3, 0, 0), steps(3, 2, 0)) == [{"text": "", "score": 0.0}, {"text": "B", "score": 0.9}]
    assert built.describe({"y": np.empty((0, 5, 3), np.float32)}, []) == []


def test_the_score_is_the_mean_of_its_characters() -> None:
    table = np.concatenate((steps(3, 0, sure=0.5), steps(3, 1, sure=0.8), steps(3, 1, sure=0.9), steps(3, 2, sure=0.6)))
    assert read(task(characters="AB"), table) == [{"text": "AB", "score": pytest.approx(0.7)}]


def test_a_class_more_is_a_space_and_the_blank_may_be_elsewhere() -> None:
    assert read(task(characters="AB"), steps(4, 1, 3, 2))[0]["text"] == "A B"
    assert read(task(characters="AB", blank=-1), steps(3, 0, 2, 0, 1))[0]["text"] == "AAB"
    assert read(task(characters="AB", blank=1), steps(3, 0, 1, 0, 2))[0]["text"] == "AAB"
    assert read(task(characters=["<Anhui>", "7"]), steps(3, 1, 2))[0]["text"] == "<Anhui>7"


def test_layouts_and_logits() -> None:
    table = steps(3, 0, 1, 0, 2, 2)
    for shape in ((5, 1, 3), (1, 5, 3), (5, 3, 1)):
        assert read(task(characters="AB"), table.reshape(shape))[0]["text"] == "AB"
    for shape in ((3, 1, 5), (3, 5)):
        assert read(task(characters="AB"), np.ascontiguousarray(table.T).reshape(shape))[0]["text"] == "AB"
    assert read(task(characters="AB", activation="softmax"), np.log(table) + 5) == [
        {"text": "AB", "score": pytest.approx(0.9)}
    ]


def test_characters_out_of_the_network_file() -> None:
    assert read(task({"character": "x\n'\nß"}), steps(5, 3, 4, 1))[0]["text"] == "ß x"
    assert read(task({"character": "x"}, characters="AB"), steps(3, 1))[0]["text"] == "A"
    with pytest.raises(TaskError, match=r"does not list its characters.*!lines FILE"):
        task({"other": "x"})


@given(st.lists(st.integers(0, 4), max_size=30), st.integers(0, 4))
def test_greedy_decoding_by_definition(path: list[int], blank: int) -> None:
    """Collapse runs, then drop blanks: Graves' B."""
    symbols = list("ABCD")
    symbols.insert(blank, "")
    expected = "".join(symbols[key] for key, _ in groupby(path) if key != blank)
    built = task(characters="ABCD", blank=blank)
    assert read(built, steps(5, *path).reshape(len(path), 5) if path else steps(5, blank))[0]["text"] == expected


def test_indices() -> None:
    built = task(decode="indices", characters=["0", "1", "<Beijing>", "A"])
    rows = np.array([[2, 3, 1, 1, -1, 3], [-1, 0, 0, 0, 0, 0], [0, 1, 2, 3, 3, 3]], np.int32)
    found = built.describe({"d": rows.reshape(3, 6, 1, 1)}, [IDENTITY] * 3)
    assert found == [{"text": "<Beijing>A11"}, {"text": ""}, {"text": "01<Beijing>AAA"}]
    with pytest.raises(TaskError, match="gave character 4, the list has 4"):
        built.describe({"d": np.array([[4, -1]], np.int32)}, [IDENTITY])


@pytest.mark.parametrize("shape", [(1, 5, 7), (1, 7, 5), (1, 2, 5, 3), (1, 6)])
def test_outputs_that_do_not_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(TaskError, match=r"2 characters need 3 classes .* or 4 .*correct `characters`"):
        task(characters="AB").describe({"y": np.zeros(shape, np.float32)}, [IDENTITY])
    with pytest.raises(TaskError, match="reaches from .*`activation`"):
        task(characters="AB").describe({"y": np.full((1, 2, 3), 9, np.float32)}, [IDENTITY])
