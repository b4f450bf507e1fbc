"""What `hams-ctl results` and `infer` do."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hams_client import Hams, Result
from hams_services.ctl.console import out, print_each, print_json, with_bus
from hams_services.ctl.control import check_known
from hams_services.sinks.quantity import quantity
from hams_shared.bus.protocol import Bus
from hams_shared.errors import SourceError


def results(group: str, follow: bool, count: int, stream: str, json: bool, nats: str | None, debug: bool) -> None:
    """Print `count` results, or all that come if `follow`."""

    async def job(bus: Bus) -> None:
        await check_known(bus, group)
        found = Hams(bus).results(group, stream)
        await print_each(found, f"results of {group}", lambda r: r.data, line, json, None if follow else count)

    with_bus(job, nats, debug, stopped_is_fine=follow)


def infer(
    group: str, image: Path, annotate: Path | None, timeout: float, json: bool, nats: str | None, debug: bool
) -> None:
    """Send one image, and print what was found."""

    async def job(bus: Bus) -> None:
        from hams_services.pipeline.sources.base import decode_image

        try:
            data = await asyncio.to_thread(image.read_bytes)
        except OSError as error:
            raise SourceError(f"cannot read {image}: {error.strerror}") from None
        pixels = decode_image(data, str(image))
        result = await Hams(bus).infer(group, data, deadline=timeout)
        if annotate is not None:
            _annotate(pixels, result, annotate)
        if json:
            print_json(result.data)
            return
        out.print(f"{len(result.objects)} object{'s' * (len(result.objects) != 1)} in {result.latency_ms:.0f} ms")
        for index, one in enumerate(result.objects):
            x0, y0, x1, y1 = one["box"]
            out.print(f"  {index}: ({x0:.0f}, {y0:.0f})–({x1:.0f}, {y1:.0f})  {summary(one)}")
        if annotate is not None:
            out.print(f"written: {annotate}")

    with_bus(job, nats, debug)


def _annotate(pixels: NDArray[np.uint8], result: Result, path: Path) -> None:
    import cv2

    from hams_services.sinks.draw import annotate

    picture = annotate(pixels, result.objects)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        written = cv2.imwrite(str(path), picture)
    except (cv2.error, OSError):
        written = False
    if not written:
        raise SourceError(f"cannot write {path}", "use a name that ends in .png or .jpg, in a folder that exists")


def line(result: Result) -> str:
    """One line for one result."""
    found = " | ".join(summary(one) for one in result.objects[:4]) or "nothing"
    more = f" | +{len(result.objects) - 4}" if len(result.objects) > 4 else ""
    return f"{result.stream} #{result.frame:<6} {result.latency_ms:7.1f} ms  {found}{more}"


def summary(one: Mapping[str, Any]) -> str:
    """One object in a few words."""
    words = [f"{one.get('label') or 'object'} {one['score']:.2f}"]
    for node, value in one.items():
        if node in ("box", "score", "label", "points") or not isinstance(value, dict):
            continue
        if "label" in value:
            words.append(f"{node} {value['label']}")
        elif "value" in value:
            words.append(f"{node} {quantity(value['value'], value.get('unit'))}")
        elif "pose" in value:
            words.append("pose " + "/".join(f"{value['pose'][k]:+.0f}°" for k in ("yaw", "pitch", "roll")))
        elif "attributes" in value:
            words += [_attribute(name, said) for name, said in value["attributes"].items() if _tells(said)]
        elif "identity" in value:
            words.append(f"{node} {'?' if value['identity'] is None else '#' + str(value['identity'])}")
        elif "text" in value:
            words.append(f"{node} {value['text']}")
        elif "objects" in value:
            said = ", ".join(summary(inner) for inner in value["objects"][:4])
            words.append(f"{node} ×{len(value['objects'])}" + f" ({said})" * bool(said))
    return ", ".join(words)


def _tells(said: Any) -> bool:
    """A flag that is not set says little."""
    return isinstance(said, Mapping) or said >= 0.5


def _attribute(name: str, said: Any) -> str:
    return f"{name} {said['label']}" if isinstance(said, Mapping) else name
