"""What `hams-ctl results`, `infer` and `tap` do."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import asdict
from numpy.typing import NDArray

from hams_client import Hams, Result
from hams_services.ctl.actions.known import check
from hams_services.ctl.console import out, print_each, print_json, with_bus
from hams_services.ctl.options import duration_s
from hams_services.sinks.quantity import quantity
from hams_shared.bus.protocol import Bus
from hams_shared.errors import SourceError
from hams_shared.group.node_spec import RESERVED_NODE_NAMES
from hams_shared.wire.frames import Output


def results(
    group: str,
    follow: bool,
    count: int | None,
    stream: str,
    since: str | None,
    durable: str | None,
    json: bool,
    nats: str | None,
    debug: bool,
) -> None:
    """Print results, see :func:`how_many`; with `since` or `durable` kept ones."""

    async def job(bus: Bus) -> None:
        if since is None and durable is None:
            await check(bus, group, stream)
            found, most = Hams(bus).results(group, stream), how_many(follow, count)
            await print_each(found, f"results of {group}", lambda r: r.data, line, json, most)
            return
        seconds = duration_s(since) if since is not None else None
        only = None if stream == "*" else stream
        kept = Hams(bus).kept_results(group, only, since=seconds, durable=durable or "", follow=follow)
        async with aclosing(kept):
            await print_each(kept, f"results of {group}", lambda r: r.data, line, json, count)
            with suppress(StopAsyncIteration):
                await kept.asend(True)  # the last one was printed: a reader with a name goes on behind it

    with_bus(job, nats, debug, stopped_is_fine=follow)


def how_many(follow: bool, count: int | None) -> int | None:
    """Return how many items to print: `count`; without it one, or all (None) if `follow`."""
    return count or (None if follow else 1)


def infer(
    group: str, image: Path, annotate: Path | None, timeout: float, json: bool, nats: str | None, debug: bool
) -> None:
    """Send one image, and print its result."""

    async def job(bus: Bus) -> None:
        from hams_services.pipeline.sources.images import decode_image

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
    """Return a result as one line: its stream, frame, media time, latency, and what was found."""
    found = " | ".join(summary(one) for one in result.objects[:4]) or "nothing"
    more = f" | +{len(result.objects) - 4}" if len(result.objects) > 4 else ""
    time = "" if result.media_time_s is None else f"at {result.media_time_s:.2f} s"
    return f"{result.stream} #{result.frame:<6} {time:13} {result.latency_ms:7.1f} ms  {found}{more}"


def summary(one: Mapping[str, Any]) -> str:
    """Return an object in a few words."""
    words = [f"{one.get('label') or 'object'} {one['score']:.2f}"]
    if "track" in one:
        words.append(f"track {one['track']}")
    for node, value in one.items():
        if node in RESERVED_NODE_NAMES or not isinstance(value, dict):
            continue
        if "label" in value:
            words.append(f"{node} {value['label']}")
        elif "value" in value:
            words.append(f"{node} {quantity(value['value'], value.get('unit'))}")
        elif "pose" in value:
            words.append("pose " + "/".join(f"{value['pose'][k]:+.0f}°" for k in ("yaw", "pitch", "roll")))
        elif "attributes" in value:
            words += [_attribute(name, found) for name, found in value["attributes"].items() if _is_set(found)]
        elif "identity" in value:
            words.append(f"{node} {'?' if value['identity'] is None else '#' + str(value['identity'])}")
        elif "text" in value:
            words.append(f"{node} {value['text']}")
        elif "objects" in value:
            inner = ", ".join(summary(part) for part in value["objects"][:4])
            words.append(f"{node} ×{len(value['objects'])}" + f" ({inner})" * bool(inner))
    return ", ".join(words)


def _is_set(attribute: Any) -> bool:
    """Whether to print an attribute: a label always, a flag only when it is set."""
    return isinstance(attribute, Mapping) or attribute >= 0.5


def _attribute(name: str, attribute: Any) -> str:
    return f"{name} {attribute['label']}" if isinstance(attribute, Mapping) else name


def tap(
    group: str, node: str, stream: str, follow: bool, count: int | None, json: bool, nats: str | None, debug: bool
) -> None:
    """Print outputs of a node, see :func:`how_many`."""

    async def job(bus: Bus) -> None:
        await check(bus, group, stream, node)
        outputs, most = Hams(bus).tap(group, node, stream), how_many(follow, count)
        await print_each(outputs, f"outputs of {group}/{node}", as_map, output_line, json, most)

    with_bus(job, nats, debug, stopped_is_fine=follow)


def as_map(output: Output) -> dict[str, object]:
    """Return the whole output as plain values."""
    return {
        **asdict(output.id),
        "node": output.node,
        "device": output.device,
        "items": output.items,
        "sources": output.sources,
        "timing": output.timing,
        "error": output.error,
    }


def output_line(output: Output) -> str:
    """Return an output as one line."""
    head = f"{output.id.stream} #{output.id.frame:<6} {output.device}"
    if output.error is not None:
        return f"{head}  {output.error['code']}: {output.error.get('text', '')}"
    timing = " ".join(f"{name} {ms:.1f}" for name, ms in output.timing.items())
    found = [one for item in output.items for one in (item if isinstance(item, list) else [item])]
    words = ", ".join(item_summary(one) for one in found[:4]) or "nothing"
    more = f", +{len(found) - 4}" if len(found) > 4 else ""
    return f"{head}  {timing} ms  {words}{more}"


def item_summary(one: object) -> str:
    """Return one item in a word or two."""
    if not isinstance(one, dict):
        return type(one).__name__
    if "box" in one:
        x0, y0, x1, y1 = one["box"]
        return f"{one.get('label') or 'object'} {one['score']:.2f} ({x0:.0f}, {y0:.0f})–({x1:.0f}, {y1:.0f})"
    for key in ("label", "text"):
        if key in one:
            return f"{one[key]} {one['score']:.2f}" if isinstance(one.get("score"), float) else str(one[key])
    if "value" in one:
        return quantity(one["value"], one.get("unit"))
    if "points" in one:
        return f"{len(one['points'])} points"
    return ", ".join(one)
