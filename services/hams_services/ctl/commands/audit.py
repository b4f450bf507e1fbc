"""Options of `hams-ctl audit`; what it does is in `actions`."""

from __future__ import annotations

from typing import Annotated

import typer

from hams_services.ctl.options import Debug, Json, Nats, check_duration


def check_what(text: str | None) -> str | None:
    """Check a kind of change, as the callback of an option."""
    if text is not None:
        from typing import get_args

        from hams_shared.wire.messages.audit import AuditWhat  # 0.1 s, with pydantic

        if text not in get_args(AuditWhat):
            raise typer.BadParameter(f"there is no kind {text!r}; there are {', '.join(get_args(AuditWhat))}")
    return text


def audit(
    since: Annotated[
        str, typer.Option(help="Begin with changes this old: 90s, 10m, 2h, 30d.", callback=check_duration)
    ] = "7d",
    what: Annotated[
        str | None, typer.Option(help="Only this kind: deploy, job, gallery, token …", callback=check_what)
    ] = None,
    target: Annotated[
        str | None, typer.Option("--of", help="Only what was done to this group, device, job, token.")
    ] = None,
    json: Json = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Print who changed what: groups, devices, jobs, identities, credentials, tokens.

    The user is the broker's, and proven where there are credentials. The rest is what the program stated.
    """
    from hams_services.ctl.actions import audit

    audit.audit(since, what, target, json, nats, debug)
