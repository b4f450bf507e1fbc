"""What `hams-ctl tap` prints of a node's output."""

from __future__ import annotations

import json

from hams_services.ctl.actions.results import as_map, output_line
from hams_shared.wire.frames import FrameId, Output

OUTPUT = Output(FrameId("face", "cam", 7, 1, 2, 12.5), "age", "box.openvino.cpu0", [{"value": 31}], [0], {"infer": 4.2})


def test_an_output_as_json_holds_its_frame() -> None:
    said = json.loads(json.dumps(as_map(OUTPUT)))
    assert (said["group"], said["stream"], said["frame"], said["node"]) == ("face", "cam", 7, "age")
    assert said["items"] == [{"value": 31}]
    assert said["timing"] == {"infer": 4.2}


def test_an_output_as_a_line() -> None:
    line = output_line(OUTPUT)
    assert line.split()[:3] == ["cam", "#7", "box.openvino.cpu0"]
    assert "infer 4.2" in line
