"""A stream in a group file: which keys go together, and its addresses without secrets."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from hams_shared.errors import GroupSpecError
from hams_shared.group.spec import parse_group
from hams_shared.group.stream_spec import DecodeSpec, StreamSpec

MAIN = "rtsp://admin:mainPass1@cam/main?token=tok3nMain"
SUB = "rtsp://admin:subPass2@cam/sub?token=tok3nSub"
KEYFRAMES = {"every": "keyframe"}


@pytest.mark.parametrize(
    "stream",
    [
        {"source": MAIN, "substream": SUB, "transport": "udp"},
        {"source": MAIN, "substream": SUB, "transport": "tcp", "decode": {"hardware": "auto"}},
        {"source": "rtsps://cam/main", "substream": "rtsps://cam/sub", "transport": "tcp"},
        {"source": "camera:0", "substream": "camera:1"},
        {"source": "http://cam/large", "substream": "http://cam/small"},
        {"source": MAIN, "decode": KEYFRAMES},
        {"source": "clip.mp4", "decode": {"every": "keyframe", "hardware": "cuda"}},
        {"source": "push"},
    ],
)
def test_what_goes_together_survives_the_wire(stream: dict[str, Any]) -> None:
    spec = StreamSpec.model_validate(stream)
    assert StreamSpec.model_validate(spec.model_dump()) == spec
    assert spec.addresses == tuple(stream[key] for key in ("source", "substream") if key in stream)


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        ({"substream": SUB}, "streams.s.source: is missing"),
        ({"source": "a.mp4", "substream": SUB}, "substream needs a camera as source"),
        ({"source": "push", "substream": SUB}, "substream needs a camera as source"),
        ({"source": MAIN, "substream": "a.mp4"}, "streams.s.substream: must be the address of a camera's stream"),
        ({"source": MAIN, "substream": "push"}, "streams.s.substream: must be the address of a camera's stream"),
        ({"source": MAIN, "substream": "rtsp://a:b1secret@/x"}, "streams.s.substream: no host can be found"),
        ({"source": MAIN, "substream": ""}, "streams.s.substream"),
        ({"source": MAIN, "substream": MAIN}, "the same stream"),
        ({"source": MAIN, "substream": SUB, "decode": KEYFRAMES}, "key frames of two streams are of different times"),
        ({"source": MAIN, "substream": SUB, "tiles": {"grid": [2, 2]}}, "substream does not go with tiles or roi"),
        ({"source": "http://cam/x", "transport": "udp"}, "transport: udp is for rtsp:// addresses only"),
        ({"source": "a.mp4", "transport": "udp"}, "transport: udp is for rtsp:// addresses only"),
        ({"source": "rtsps://cam/x", "transport": "udp"}, "rtsps:// carries the video over TLS"),
        ({"source": MAIN, "substream": "http://cam/x", "transport": "udp"}, "transport: udp is for rtsp://"),
        ({"source": MAIN, "transport": "sctp"}, "streams.s.transport: must be 'tcp' or 'udp'"),
        ({"source": "push", "decode": {"hardware": "auto"}}, "applications push single images"),
        ({"source": MAIN, "decode": {"hardware": "magic"}}, "streams.s.decode.hardware: must be 'none', 'auto'"),
        ({"source": MAIN, "decode": {"evry": "frame"}}, "decode.evry: unknown key (did you mean every?)"),
        ({"source": MAIN, "substrem": SUB}, "substrem: unknown key (did you mean substream?)"),
    ],
)
def test_what_does_not_go_together_is_told_without_secrets(stream: dict[str, Any], said: str) -> None:
    node = {"model": "m.onnx", "input": {"size": [8, 8]}, "task": {"type": "raw"}}
    with pytest.raises(GroupSpecError) as caught:
        parse_group({"name": "g", "nodes": {"n": node}, "streams": {"s": stream}})
    assert said in str(caught.value)
    for secret in ("mainPass1", "subPass2", "tok3n", "b1secret"):
        assert secret not in str(caught.value)


def test_defaults_are_every_frame_by_the_cpu() -> None:
    spec = StreamSpec(source=f" {MAIN} ", substream=f" {SUB} ")
    assert (spec.source, spec.substream, spec.transport) == (MAIN, SUB, "tcp")
    assert spec.decode == DecodeSpec(every="frame", hardware="none")
    with pytest.raises(ValidationError):
        StreamSpec(source=MAIN, decode=DecodeSpec(every="field"))  # type: ignore[arg-type]


def test_as_people_may_see_it() -> None:
    shown = StreamSpec(source=MAIN, substream=SUB, mode="lossless").without_secrets()
    assert (shown.source, shown.substream) == ("rtsp://cam/main?token=***", "rtsp://cam/sub?token=***")
    assert shown.mode == "lossless"
    assert StreamSpec(source="clip.mp4").without_secrets() == StreamSpec(source="clip.mp4")
