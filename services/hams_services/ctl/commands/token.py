"""Options of `hams-ctl token add`, `list` and `remove`; what they do is in `actions`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hams_services.ctl.options import Debug, Json, check_duration, duration_s

app = typer.Typer(no_args_is_help=True, help="Tokens of clients of the gateway: add, list and remove them.")

Name = Annotated[str, typer.Argument(help="Whose token it is, for example the application's name.")]
File = Annotated[
    Path | None,
    typer.Option("--tokens", envvar="HAMS_TOKENS", help="File of tokens (default: tokens.json in ~/.hams)."),
]


@app.command()
def add(
    name: Name,
    role: Annotated[
        str, typer.Option(help="viewer: read results, events and state; app: also send images.", metavar="viewer|app")
    ] = "viewer",
    group: Annotated[list[str] | None, typer.Option(help="Only for this group; repeat for more.")] = None,
    expires: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="It is valid for so long: 30d, 12h. Default: always.", callback=check_duration
        ),
    ] = None,
    tokens: File = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Make a token and print it, once: the file holds only its hash. A running gateway knows it at once."""
    from hams_services.ctl.actions import token

    lasts_s = None if expires is None else duration_s(expires)
    token.add_token(name, role, tuple(group or ()), lasts_s, tokens, json, debug)


@app.command("list")
def list_(tokens: File = None, json: Json = False, debug: Debug = False) -> None:
    """List the tokens: whose they are, what they may, until when."""
    from hams_services.ctl.actions import token

    token.list_tokens(tokens, json, debug)


@app.command()
def remove(name: Name, tokens: File = None, debug: Debug = False) -> None:
    """Remove a token: a running gateway refuses it at once, and ends what it follows within 15 s."""
    from hams_services.ctl.actions import token

    token.remove_token(name, tokens, debug)
