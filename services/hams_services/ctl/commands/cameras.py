"""Options of `hams-ctl cameras list` and `discover`; what they do is in `actions`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from hams_services.ctl.options import Debug, Json

cameras = typer.Typer(
    no_args_is_help=True, help="Find cameras: those of this host, and those that know ONVIF on its networks."
)


@cameras.command("list")
def list_(json: Json = False, debug: Debug = False) -> None:
    """List the cameras of this host (USB, CSI), each with the source to write into a group file."""
    from hams_services.ctl.actions import cameras

    cameras.list_cameras(json, debug)


@cameras.command()
def discover(
    address: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST[:PORT]", help="Ask this camera only, without a search; repeat for more."),
    ] = None,
    user: Annotated[
        str | None, typer.Option(envvar="HAMS_CAMERA_USER", help="ONVIF user of the cameras. Default: no login.")
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option(
            envvar="HAMS_CAMERA_PASSWORD_FILE",
            help="File with the user's password. Default: HAMS_CAMERA_PASSWORD, else ask for it.",
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=600, help="How long to search, then how long each camera may take, s.")
    ] = 5.0,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Find ONVIF cameras on this host's networks; show their streams, and which to write into a group file.

    All cameras of the local networks are searched by multicast (WS-Discovery). User and password are sent to each
    camera that answers, as a digest. Needs hams[onvif].
    """
    password = _password(user, password_file)
    from hams_services.ctl.actions import cameras

    cameras.discover(address or [], user, password, timeout, json, debug)


def _password(user: str | None, file: Path | None) -> str | None:
    """Return the password of `user`: of the file, the environment, or a prompt; never an argument, which `ps` shows."""
    if file is not None and user is None:
        raise typer.BadParameter("--password-file goes with --user")
    if user is None:
        return None
    if file is not None:
        try:
            return file.read_text(encoding="utf-8").strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise typer.BadParameter(f"--password-file: cannot read {file}: {error}") from None
    if (password := os.environ.get("HAMS_CAMERA_PASSWORD")) is not None:
        return password
    if not sys.stdin.isatty():
        raise typer.BadParameter("HAMS_CAMERA_PASSWORD is not set, and there is no terminal to ask for the password")
    return str(typer.prompt(f"password of {user}", hide_input=True, err=True))
