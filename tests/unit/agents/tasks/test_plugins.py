"""A task of another package, installed as a person would: its errors are its own, and changes of it are noticed."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from importlib import invalidate_caches
from pathlib import Path

import numpy as np
import pytest

from hams_agents.tasks import plugins
from hams_agents.tasks.plugins import Changes
from hams_agents.tasks.registry import build_task, describe, is_detection, used_outputs
from hams_shared.errors import TaskError
from hams_shared.group.node_spec import InputSpec, TaskSpec

CODE = """
from hams_agents.tasks.base import Detected, TaskParams


class Task:
    Params = TaskParams

    def __init__(self, params, context):
        self.size = context.input.size
{more}

    def {method}(self, outputs, to_frame{frame}):
        {body}
"""
ONE = {"y": np.ones((1, 3), np.float32)}
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a package ``mine`` with one task; afterwards it is as if it had never been loaded."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(plugins, "_packages", {})

    def installed(
        body: str, *, method: str = "describe", version: str = "1.0", more: str = "", further: str = ""
    ) -> None:
        (tmp_path / "mine").mkdir(exist_ok=True)
        (tmp_path / "mine" / "__init__.py").write_text("")
        frame = ", frame_size=None" if method == "detect" else further
        (tmp_path / "mine" / "task.py").write_text(CODE.format(method=method, body=body, more=more, frame=frame))
        for old in tmp_path.glob("mine-*"):
            for file in old.iterdir():
                file.unlink()
            old.rmdir()
        info = tmp_path / f"mine-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: mine\nVersion: {version}\n")
        (info / "entry_points.txt").write_text("[hams.tasks]\nmine = mine.task:Task\n")
        invalidate_caches()

    yield installed
    for name in [n for n in sys.modules if n == "mine" or n.startswith("mine.")]:
        del sys.modules[name]


def build():  # type: ignore[no-untyped-def]
    return build_task(TaskSpec.model_validate({"type": "mine"}), InputSpec(size=(8, 8)))


def say() -> None:
    task = build()
    if is_detection(task):
        task.detect(ONE, [np.eye(2, 3)])
    else:
        task.describe(ONE, [np.eye(2, 3)])


@pytest.mark.parametrize("method", ["detect", "describe"])
def test_an_exception_is_told_with_its_file_and_line(
    install: Install, tmp_path: Path, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    install('return outputs["heat"]', method=method)
    with pytest.raises(TaskError) as caught:
        say()
    text = str(caught.value)
    assert text.startswith("task mine raised KeyError: 'heat' [")
    assert f'{tmp_path}/mine/task.py:13, in {method}: return outputs["heat"]]' in text
    assert "defect in HAMS" not in text
    assert "Traceback" in caplog.text


def test_an_error_deep_in_a_library_names_the_line_of_the_task(install: Install, tmp_path: Path) -> None:
    install('import numpy; return numpy.linalg.inv(outputs["y"])')
    with pytest.raises(TaskError, match=rf"task mine raised LinAlgError: .*\[{tmp_path}/mine/task.py:13, in describe"):
        say()


@pytest.mark.parametrize(
    ("body", "method", "text"),
    [
        ("return None", "describe", "gave NoneType instead of a list of a map for each image"),
        ("return [3]", "describe", "gave list instead of a list of a map for each image"),
        ('return [{"value": outputs["y"][0, 0]}]', "describe", "gave a float32 as value, which cannot travel"),
        ("return [{1: 2}]", "describe", "gave the key 1: keys are texts"),
        ("return None", "detect", "gave NoneType instead of a list of objects for each image"),
        ("return [[(1, 2, 3, 4)]]", "detect", "found tuple instead of Detected"),
        ("return [[], []]", "detect", "gave 2 lists for 1 images"),
        ("return [{}, {}]", "describe", "gave 2 maps for 1 images"),
        (
            "from hams_agents.tasks.base import Detected; return [{'objects': [Detected((0, 0, 1, 1), 0.5, 'x')]}]",
            "describe",  # without `parts`, so that the agent does not write them for the message
            "gave a list as objects, which cannot travel",
        ),
        (
            "from hams_agents.tasks.base import Detected; return [[Detected((0, 0, 1, float('nan')), 0.5, 'x')]]",
            "detect",
            "found an object whose box or score",
        ),
        ("raise SystemExit(3)", "detect", "raised SystemExit: 3"),
        ("raise KeyboardInterrupt", "describe", r"raised KeyboardInterrupt \["),
    ],
)
def test_what_does_not_fit_is_told_as_the_tasks(install: Install, body: str, method: str, text: str) -> None:
    install(body, method=method)
    with pytest.raises(TaskError, match=f"task mine {text}"):
        say()


def test_errors_while_it_is_built_and_loaded(install: Install, tmp_path: Path) -> None:
    install("return [{}]", more="        self.x = 1 / 0")
    with pytest.raises(TaskError, match=rf"cannot be built: ZeroDivisionError: .* \[{tmp_path}/mine/task.py:10"):
        build()
    for name in ("mine.task", "mine"):
        del sys.modules[name]
    install("return [{}")
    with pytest.raises(TaskError, match=rf"cannot be loaded: SyntaxError: .* \[{tmp_path}/mine/task.py:13"):
        build()


def test_a_plugin_names_its_used_outputs(install: Install) -> None:
    install("return [{}]", more="    def reads(self, outputs):\n        return {}[1]")
    with pytest.raises(TaskError, match="task mine raised KeyError: 1"):
        used_outputs(build(), ONE)


def test_a_package_that_is_installed_again_is_noticed(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    install('return [{"value": 1.0}]')
    say()
    changes = Changes()
    assert changes.check(0.0) == ()
    install('return [{"value": 2.25}]')
    assert changes.check(1.0) == ()  # it does not look at files all the time
    caplog.set_level(logging.WARNING)
    told = "the task package mine has changed since it was loaded (__init__.py, task.py): restart the agent to use it"
    assert changes.check(6.0) == (told,)
    assert caplog.messages == [told]
    install('return [{"value": 1.0}]', version="1.1")
    assert changes.check(12.0) == (
        "the task package mine is version 1.1 now, and 1.0 was loaded: restart the agent to use it",
    )


def test_a_task_of_maps_gets_the_part_that_is_not_padding(install: Install) -> None:
    install('return [{"filled": list(one)} for one in filled]', more="        self.maps = True", further=", filled")
    found = describe(build(), ONE, [np.eye(2, 3)], [(8, 6)])
    assert found == [{"filled": [8, 6]}]
