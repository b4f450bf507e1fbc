"""What `hams-ctl token add`, `list` and `remove` do."""

from __future__ import annotations

import re
import time
from datetime import datetime
from pathlib import Path

from hams_services.ctl.console import err, out, print_json, run_sync
from hams_services.ctl.system.audit_file import tell
from hams_services.ctl.tables import plain_table
from hams_services.security import tokens
from hams_services.security.tokens import ROLES, Token
from hams_shared.errors import BadInputError
from hams_shared.group.findings import NAME_PATTERN


def add_token(
    name: str, role: str, groups: tuple[str, ...], lasts_s: float | None, file: Path | None, json: bool, debug: bool
) -> None:
    """Make a token and print it."""

    def job() -> None:
        if role not in ROLES:
            raise BadInputError(f"there is no role {role!r}", f"there are {', '.join(ROLES)}")
        for group in groups:
            if not re.fullmatch(NAME_PATTERN, group):
                raise BadInputError(f"{group!r} is no name of a group", "see `hams-ctl status`")
        path = file or tokens.default_path()
        token = tokens.add(path, name, role, groups, lasts_s, time.time())
        tell("token", name, f"{role} token added for {', '.join(groups) or 'all groups'}")
        if json:
            print_json({"name": name, "token": token, "file": str(path)})
            return
        out.print(token, soft_wrap=True)
        err.print(f"keep it now: {path} holds only its hash", style="dim", soft_wrap=True)

    run_sync(job, debug)


def list_tokens(file: Path | None, json: bool, debug: bool) -> None:
    """Print the tokens, without them."""

    def job() -> None:
        path = file or tokens.default_path()
        if file is None and not path.exists():
            known: tuple[Token, ...] = ()
        else:
            known = tokens.read(path).tokens
        if json:
            print_json([one.model_dump(mode="json", exclude={"sha256"}) for one in known])
            return
        if not known:
            effect = "the gateway lets nobody in" if path.exists() else "the gateway serves this machine only"
            out.print(f"no tokens, so {effect}; make one: hams-ctl token add NAME")
            return
        table = plain_table(f"tokens in {path}")
        for column in ("name", "role", "groups", "created", "expires"):
            table.add_column(column)
        for one in known:
            table.add_row(one.name, one.role, ", ".join(one.groups) or "all", _date(one.created), _expiry(one))
        out.print(table)

    run_sync(job, debug)


def remove_token(name: str, file: Path | None, debug: bool) -> None:
    """Remove a token."""

    def job() -> None:
        tokens.remove(file or tokens.default_path(), name)
        tell("token", name, "removed")
        out.print(f"token {name} is removed")

    run_sync(job, debug)


def _date(when: float) -> str:
    return datetime.fromtimestamp(when).strftime("%Y-%m-%d %H:%M")


def _expiry(one: Token) -> str:
    if one.expires is None:
        return "never"
    return _date(one.expires) + (" (over)" if one.expires <= time.time() else "")
