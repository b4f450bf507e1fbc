"""Secrets of sources by reference: `rtsp://user:${DOOR}@camera/main` holds none itself.

The pipeline that opens the source looks them up: in the environment variable ``HAMS_SECRET_DOOR``, else in the file
``DOOR`` in the folder that ``HAMS_SECRET_FOLDER`` names. So they are in no group file, record, backup or page. Other
variables and files cannot be named, since who deploys a group also chooses to which host an address leads.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from hams_shared.errors import HamsError, SourceError
from hams_shared.group.camera_url import HIDDEN

VARIABLE = "HAMS_SECRET_"
FOLDER = "HAMS_SECRET_FOLDER"
DEFAULT_FOLDER = "/run/secrets"
"""As Docker mounts secrets."""
LARGEST = 4096
"""Of a secret, bytes."""
_REFERENCE = re.compile(r"\$\{([A-Za-z][A-Za-z0-9_]{0,63})\}")


def with_secrets(source: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return an address with its references replaced, percent-encoded; anything else unchanged.

    Raises:
        SourceError: there is no such secret. The text names the secret only.
    """
    if "://" not in source:
        return source
    return _REFERENCE.sub(lambda found: quote(_secret(found[1], environment), safe=""), source)


def _secret(name: str, environment: Mapping[str, str]) -> str:
    value = environment.get(VARIABLE + name)
    path = Path(environment.get(FOLDER) or DEFAULT_FOLDER) / name
    if value is None:
        try:
            with path.open("rb") as file:
                value = file.read(LARGEST).decode().rstrip("\r\n")
        except (OSError, UnicodeDecodeError):
            value = ""
    if not value:
        raise SourceError(
            f"the source needs the secret {name}, which this pipeline does not have",
            f"set {VARIABLE}{name} for the pipeline, or write the file {path}",
        )
    return value


@contextmanager
def hidden(source: str) -> Iterator[str]:
    """Yield `source` with its secrets; an error that holds one of them is raised without it."""
    full = with_secrets(source)
    if full == source:
        yield source
        return
    values = [_secret(name, os.environ) for name in _REFERENCE.findall(source)]
    known = sorted({form for value in values for form in (value, quote(value, safe=""))}, key=len, reverse=True)
    try:
        yield full
    except HamsError as error:
        text, hint = error.text, error.hint
        for form in known:
            text, hint = text.replace(form, HIDDEN), hint.replace(form, HIDDEN)
        raise type(error)(text, hint) from None
