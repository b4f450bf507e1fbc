"""What `hams-ctl cameras list` and `discover` do."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import typer

from hams_services.ctl.console import err, out, print_json, run_sync, without_bus
from hams_services.ctl.onvif.camera import OnvifCamera, Suggestion, suggestions
from hams_services.ctl.onvif.search import Answer, search
from hams_services.ctl.tables import plain_table
from hams_services.pipeline.sources.v4l2 import cameras
from hams_shared.errors import BadInputError, DeadlineError, NotFoundError
from hams_shared.group.camera_url import HIDDEN

if TYPE_CHECKING:
    from hams_services.ctl.onvif.ask import Login

AT_ONCE = 32
"""Cameras that are asked at the same time."""
NONE_HERE = "is it plugged in, and in a container, is /dev mapped? `hams-ctl cameras discover` finds network cameras"
NONE_FOUND = (
    "are the cameras on the same network, with ONVIF switched on; does a firewall block UDP 3702, or a switch or "
    "container multicast? --address HOST asks one camera without multicast"
)


def list_cameras(json: bool, debug: bool) -> None:
    """Print the cameras of this host."""

    def main() -> None:
        found = cameras()
        if json:
            print_json({"cameras": [asdict(camera) for camera in found]})
            return
        if not found:
            raise NotFoundError("this host has no camera (/dev/video*)", NONE_HERE)
        table = plain_table("Cameras of this host")
        for column in ("source", "camera", "device now"):
            table.add_column(column)
        for camera in found:
            table.add_row(camera.source, camera.card or "–", camera.path)
        out.print(table)

    run_sync(main, debug)


def discover(
    addresses: list[str], user: str | None, password: str | None, timeout: float, json: bool, debug: bool
) -> None:
    """Print the ONVIF cameras at `addresses`, or where there are none, those that answer a search; and their streams.

    `timeout`, s, is for the search, and again for each camera.
    """

    code = 0

    async def main(stop: asyncio.Event) -> None:
        nonlocal code
        found = await find(addresses, user, password, timeout)
        if json:
            print_json(_as_json(found))
        else:
            _print(found)
        failed = [camera.error for camera in found if camera.error is not None]
        if len(failed) == len(found):
            code = failed[0].exit_code

    without_bus(main, debug)
    if code:
        raise typer.Exit(code)


async def find(
    addresses: list[str], user: str | None, password: str | None, timeout: float, group: tuple[str, int] | None = None
) -> list[OnvifCamera]:
    """Return what :func:`discover` prints. `group`: another multicast group and port than WS-Discovery's.

    Raises:
        BadInputError: an address is none, or the extra is not installed.
        DeadlineError: no camera answers the search.
    """
    try:
        from hams_services.ctl.onvif.ask import Login, ask, load
    except ImportError as error:
        raise BadInputError(f"ONVIF needs {error.name}", "pip install 'hams[onvif]'") from None
    login: Login | None = Login(user, password or "") if user is not None else None
    if addresses:
        answers = [_answer(address) for address in addresses]
        await load()
    else:
        if err.is_terminal:
            err.print(f"searching for {timeout:g} s …", style="dim")
        answers, _ = await asyncio.gather(search(timeout, *([group] if group else [])), load())
        if not answers:
            raise DeadlineError(f"no ONVIF camera answered within {timeout:g} s", NONE_FOUND)
    free = asyncio.Semaphore(AT_ONCE)

    async def asked(answer: Answer) -> OnvifCamera:
        async with free:
            return await ask(answer, login, timeout)

    return await asyncio.gather(*(asked(answer) for answer in answers))


def _answer(address: str) -> Answer:
    """Return the device at HOST, HOST:PORT or a URL. Raises BadInputError."""
    url = address if "://" in address else f"http://{address}/onvif/device_service"
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        sound = False
    if not sound or "@" in parts.netloc or not url.isprintable() or " " in url:
        raise BadInputError(
            "--address is not HOST, HOST:PORT or http://HOST/PATH", "user and password have own options"
        )
    return Answer(url)


def _as_json(found: list[OnvifCamera]) -> dict[str, Any]:
    return {
        "cameras": [
            {
                "address": camera.address,
                "name": camera.name,
                "model": camera.model,
                "profiles": [asdict(profile) for profile in camera.profiles],
                "error": camera.error.to_wire() if camera.error else None,
            }
            for camera in found
        ],
        "streams": {one.name: _stream(one) for one in suggestions(found)},
    }


def _stream(one: Suggestion) -> dict[str, str]:
    return {"source": one.source, **({"substream": one.substream} if one.substream else {})}


def _print(found: list[OnvifCamera]) -> None:
    for camera in found:
        _print_camera(camera)
    suggested = suggestions(found)
    if not suggested:
        return
    out.print(
        "# For a group file. If a camera asks for a login: rtsp://USER:PASSWORD@HOST/…", style="dim", soft_wrap=True
    )
    if any(HIDDEN in f"{one.source} {one.substream}" for one in suggested):
        out.print(f"# The camera's address holds a password: write it instead of {HIDDEN}", style="dim", soft_wrap=True)
    out.print("streams:")
    for one in suggested:
        out.print(f"  {one.name}:")
        for key, value in _stream(one).items():
            out.print(f"    {key}: {value}", soft_wrap=True)


def _print_camera(camera: OnvifCamera) -> None:
    place = urlsplit(camera.address).netloc or camera.address
    name = ", ".join(dict.fromkeys(text for text in (camera.name, camera.model) if text))
    title = f"{place}: {name}" if name else place
    if camera.profiles:
        table = plain_table(title)
        for column in ("profile", "size", "frames/s", "codec", "address"):
            table.add_column(column, justify="right" if column in ("size", "frames/s") else "left")
        for one in camera.profiles:
            size = f"{one.width}×{one.height}" if one.width else "–"
            table.add_row(one.name, size, f"{one.fps:g}" if one.fps else "–", one.codec or "–", one.url or "–")
        out.print(table)
    else:
        out.print(title, style="bold")
    if camera.error is not None:
        out.print(f"  {camera.error}", style="red")
    out.print()
