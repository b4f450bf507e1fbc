"""How images become a network's input: what its file states, and what its family does, which is a guess. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hams_agents.tasks import layouts
from hams_agents.tasks.base import TensorInfo
from hams_shared.group.node_spec import InputSpec

IMAGENET = {"mean": [123.675, 116.28, 103.53], "scale": [58.395, 57.12, 57.375]}
"""torchvision's normalisation, for 0..255."""
HALF = {"mean": [127.5], "scale": [127.5]}
NORMALISED = ("classification", "embedding", "segmentation", "depth")
"""Tasks of networks from PyTorch that have this normalisation."""
RGB = {"color": "rgb"}
BGR = {"color": "bgr"}
LETTERBOX = {"fit": "letterbox"}
CHECK = (
    "run a picture whose answer you know: `hams-ctl infer GROUP PHOTO`; if nothing is found, or little, exchange rgb "
    "and bgr, and try scale [255], mean and scale of the training, or none"
)


@dataclass(frozen=True)
class Guess:
    """A node's `input`, and what is known of it."""

    input: dict[str, Any]
    stated: tuple[str, ...]
    """Why, where the file states it."""
    guessed: tuple[str, ...]
    """What is taken from the family."""


def image_of(inputs: Sequence[TensorInfo]) -> TensorInfo | None:
    """Return the input that takes the image: four axes, one of them for 1 or 3 channels; None: there is none."""
    likely = [one for one in inputs if len(one.shape) == 4 and (_nhwc(one) or one.shape[1] in (1, 3, None))]
    return likely[0] if likely else None


def guess(
    image: TensorInfo, format: str, made_by: str, metadata: Mapping[str, str], task: str, params: Mapping[str, Any]
) -> Guess:
    """Return the input of a node with `task`, for the input `image` of a file of this `format`."""
    size, why_size = _size(image, metadata, task)
    values, why, certain = _values(image, format, made_by, metadata, task, params)
    values = _for_channels(dict(values), image)
    found = {"size": list(size), "color": values.pop("color"), **({"layout": "nhwc"} if _nhwc(image) else {}), **values}
    guessed = [*([] if certain else [why]), *([why_size] if why_size else [])]
    return Guess(found, (why,) if certain else (), tuple(guessed))


def _for_channels(values: dict[str, Any], image: TensorInfo) -> dict[str, Any]:
    """Return `values` for one grey channel, or for bytes, which have neither mean nor scale."""
    if (image.shape[3] if _nhwc(image) else image.shape[1]) == 1:
        values = {key: one[:1] if isinstance(one, list) else one for key, one in values.items()} | {"color": "gray"}
    if image.dtype in ("uint8", "int8"):
        values = {key: one for key, one in values.items() if key not in ("mean", "scale")} | {"dtype": "u8"}
    return values


def _nhwc(image: TensorInfo) -> bool:
    return image.shape[3] in (1, 3) and image.shape[1] not in (1, 3)


def _size(image: TensorInfo, metadata: Mapping[str, str], task: str) -> tuple[tuple[int, int], str]:
    """Return width and height; and why, where the file leaves them open."""
    stated = layouts.image_size(image)
    if stated is not None and all(8 <= side <= 4096 for side in stated):
        return stated, ""
    known = [int(side) for side in re.findall(r"\d+", metadata.get("imgsz", ""))[:2] if 8 <= int(side) <= 4096]
    if known:
        return (known[-1], known[0]), "the network takes any size; this is the one that its metadata names"
    default = {"text": (320, 48), "classification": (224, 224), "embedding": (224, 224)}.get(task, (640, 640))
    height, width = image.shape[1:3] if _nhwc(image) else image.shape[2:]
    size = (width or default[0], height or default[1])
    bounded = (min(max(size[0], 8), 4096), min(max(size[1], 8), 4096))
    return bounded, f"the network takes any size: {bounded[0]}×{bounded[1]} is common; smaller is faster"


def _values(
    image: TensorInfo, format: str, made_by: str, metadata: Mapping[str, str], task: str, params: Mapping[str, Any]
) -> tuple[dict[str, Any], str, bool]:
    """Return colour, mean, scale and fit; why; and whether the file states them."""
    if "model_info:model_type" in metadata:
        return _model_api(metadata), "its metadata (OpenVINO's Model API) states colour and scale", True
    if layouts.is_ultralytics(metadata):
        whole = layouts.kind_of(metadata) == "classify"
        return {**RGB, "scale": [255], **({} if whole else {**LETTERBOX, "pad": 114})}, "Ultralytics: RGB, 0..1", True
    if params.get("anchors", {}).get("style") == "mediapipe":
        return {**RGB, **HALF, **LETTERBOX}, "mediapipe's detectors: RGB, -1..1", False
    by_task: dict[str, tuple[dict[str, Any], str]] = {
        "centerface": ({**RGB, **LETTERBOX}, "CenterFace: RGB, 0..255"),
        "retinaface": (
            {**BGR, "mean": [104, 117, 123], **LETTERBOX},
            "RetinaFace: BGR, 0..255 less 104, 117, 123",
        ),
    }
    if task in by_task:
        return *by_task[task], False
    if task == "text" and "character" in metadata:
        return {**BGR, **HALF, **LETTERBOX, "pad": 128}, "PaddleOCR: BGR, -1..1", False
    match format:
        case "OpenVINO IR":
            return (
                BGR,
                "Open Model Zoo's IR: BGR, 0..255 (other converters may keep the training's scale outside)",
                False,
            )
        case "TensorFlow Lite":
            return {**RGB, "scale": [255]}, "TensorFlow Lite: RGB, 0..1 as mediapipe's; others take -1..1", False
        case "TensorFlow" if task == "ssd":
            return {**RGB, **LETTERBOX}, "TensorFlow's detectors: RGB, 0..255, which they scale themselves", False
        case "TensorFlow":
            return {**RGB, **HALF}, "TensorFlow: RGB, -1..1", False
    if _normalised(task, params) and "pytorch" in made_by.lower():
        return {**RGB, **IMAGENET}, "PyTorch: RGB, ImageNet's mean and scale, as torchvision's networks", False
    letterbox = {**LETTERBOX, "pad": 114} if task.startswith("yolo") else {}
    return {**RGB, "scale": [255], **letterbox}, "most networks from PyTorch: RGB, 0..1", False


def _normalised(task: str, params: Mapping[str, Any]) -> bool:
    """Return whether such networks from PyTorch have ImageNet's mean and scale: also heat maps, and DETR by softmax."""
    heatmaps = task == "landmarks" and params.get("decode") == "heatmaps"
    return task in NORMALISED or heatmaps or (task == "detr" and params.get("activation") == "softmax")


def _model_api(metadata: Mapping[str, str]) -> dict[str, Any]:
    """What OpenVINO's Model API writes into an IR: https://github.com/open-edge-platform/model_api."""
    info = {key.removeprefix("model_info:"): value for key, value in metadata.items() if key.startswith("model_info:")}
    reverse = info.get("reverse_input_channels", "").lower() in ("true", "yes")
    found: dict[str, Any] = {"color": "rgb" if reverse else "bgr"}
    for ours, theirs in (("mean", "mean_values"), ("scale", "scale_values")):
        numbers = [float(number) for number in re.findall(r"-?\d+\.?\d*", info.get(theirs, ""))]
        if len(numbers) in (1, 3) and any(number not in (0.0, 1.0) for number in numbers) and 0.0 not in numbers[:1]:
            found[ours] = [int(number) if number.is_integer() else number for number in numbers]
    if "letterbox" in info.get("resize_type", ""):
        found |= LETTERBOX
        pad = info.get("pad_value", "")
        found |= {"pad": int(pad)} if pad.isdigit() and 0 < int(pad) <= 255 else {}
    return found


def checked(input: Mapping[str, Any]) -> InputSpec:
    """Return it as a node's input."""
    return InputSpec.model_validate(input)
