"""What `hams-ctl deploy` says of a group's streams once the group serves."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import cv2
import pytest

from hams_services.ctl.actions.deploy import check_streams
from hams_services.models.prepare import prepare_group
from hams_shared.errors import ModelFetchError, NotFoundError, SourceError
from hams_shared.group.spec import GroupSpec
from hams_shared.wire.messages.pipeline import StreamView
from support.grey import network
from support.world.system import System, light, picture


async def begun(world: System, streams: dict[str, dict[str, Any]]) -> tuple[StreamView, ...]:
    """Deploy a group with `streams`, and wait for them as `deploy` does."""
    record = await world.deploy({**light(), "streams": streams})
    began = world.clock.now()
    views = await world.control.until_streams_run(record, 10)
    assert world.clock.now() - began < 2
    return views


def start(world: System) -> None:
    world.scheduler()
    world.pipeline()
    world.agent("sim")


async def test_a_source_that_is_not_there_fails_the_deployment_and_names_whose_files_are_meant(
    world: System, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start(world)
    cv2.imwrite(str(tmp_path / "one.png"), picture(1))
    bad = {"source": str(tmp_path / "mine.mp4")}
    views = await begun(world, {"bad": bad, "good": {"source": str(tmp_path / "one.png")}, "app": {"source": "push"}})
    states = {view.stream: view.state for view in views}
    assert states.keys() == {"bad", "good"}
    assert states["bad"] == "failed"
    assert states["good"] in ("playing", "ended")
    capsys.readouterr()
    with pytest.raises(SourceError, match=r"stream grey/bad failed: .*mine.mp4 does not exist (on|in) the pipeline's"):
        check_streams(list(views))
    assert capsys.readouterr().err == ""
    [view] = [view for view in views if view.stream == "good"]
    check_streams([view])


async def test_a_repaired_stream_is_not_reported_as_failed(world: System, tmp_path: Path) -> None:
    start(world)
    path = tmp_path / "one.png"
    [view] = await begun(world, {"s0": {"source": str(path)}})
    assert view.state == "failed"
    cv2.imwrite(str(path), picture(1))
    [view] = await begun(world, {"s0": {"source": str(path)}})
    assert view.state in ("playing", "ended")


async def test_a_camera_that_does_not_answer_is_reported_and_no_failure(
    world: System, capsys: pytest.CaptureFixture[str]
) -> None:
    start(world)
    [view] = await begun(world, {"cam": {"source": "camera:250"}})
    assert view.state == "reconnecting"
    check_streams([view])
    assert "stream grey/cam does not play yet: " in capsys.readouterr().err


async def test_a_missing_pipeline_is_reported(world: System) -> None:
    world.scheduler()
    world.agent("sim")
    record = await world.deploy(light({"source": "camera:250"}))
    with pytest.raises(NotFoundError, match="no pipeline"):
        await world.control.until_streams_run(record, 10)


async def test_files_of_a_pipeline_elsewhere_need_not_be_here(
    world: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not await world.control.pipeline_is_elsewhere()  # nobody knows
    world.pipeline()
    await world.until(lambda: _answers(world))
    assert not await world.control.pipeline_is_elsewhere()
    monkeypatch.setattr(socket, "gethostname", lambda: "another container")
    assert await world.control.pipeline_is_elsewhere()

    spec = GroupSpec.model_validate(light({"source": "/none/mine.mp4"}, node={"model": str(network(tmp_path))}))
    record, _ = prepare_group(spec, tmp_path, lambda *_: None, elsewhere=True)
    assert record.spec == spec
    with pytest.raises(ModelFetchError, match=r"stream s0: /none/mine.mp4 does not exist"):
        prepare_group(spec, tmp_path, lambda *_: None)


async def _answers(world: System) -> bool:
    async with asyncio.timeout(5):
        return (await world.control.streams()).streams == ()
