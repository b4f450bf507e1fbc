"""Zip files that may be hostile: declared and actual sizes are counted before anything is unpacked."""

from __future__ import annotations

import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from hams_shared.errors import ModelError

MAX_ENTRIES = 10_000
MAX_UNPACKED = 4 << 30
"""Bytes of all entries together."""
MAX_RATIO = 200
"""Unpacked over packed size; networks are numbers, which compress badly."""
SMALL = 1 << 20
"""Below so many bytes the ratio does not matter."""
_CHUNK = 1 << 20


def check_zip(path: Path, max_unpacked: int = MAX_UNPACKED) -> int:
    """Return the unpacked size, bytes, after reading every entry.

    Raises:
        ModelError: too many entries, too large (declared or actual), a name outside the folder, a link, or damage.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check_entries(path, entries, max_unpacked)
            return _count(path, archive, entries, max_unpacked)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError) as error:
        raise ModelError(f"{path.name} is a damaged zip file: {error}", "fetch it again") from None


def unpack(path: Path, folder: Path) -> None:
    """Unpack a checked zip file into `folder`. Raises ModelError as :func:`check_zip`, which it calls, and for an entry
    that is a file here and a folder there, or comes twice."""
    check_zip(path)
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.is_dir():
                continue
            target = folder / entry.filename
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                sink = target.open("xb")
            except (FileExistsError, NotADirectoryError):
                raise ModelError(f"{path.name} has {entry.filename!r} twice, or as a file and a folder") from None
            with sink, archive.open(entry) as source:
                while chunk := source.read(_CHUNK):
                    sink.write(chunk)


def _check_entries(path: Path, entries: list[zipfile.ZipInfo], max_unpacked: int) -> None:
    if len(entries) > MAX_ENTRIES:
        raise ModelError(f"{path.name} has {len(entries)} entries, more than {MAX_ENTRIES}: a zip bomb?")
    declared = sum(entry.file_size for entry in entries)
    if declared > max_unpacked:
        raise ModelError(f"{path.name} declares {declared} bytes unpacked, more than {max_unpacked}: a zip bomb?")
    for entry in entries:
        name = PurePosixPath(entry.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or (name.parts and name.parts[0].endswith(":")):
            raise ModelError(f"{path.name} has an entry outside of its folder: {entry.filename!r}")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise ModelError(f"{path.name} has a link among its entries: {entry.filename!r}")
        if entry.flag_bits & 1:
            raise ModelError(f"{path.name} has an encrypted entry: {entry.filename!r}")


def _count(path: Path, archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo], max_unpacked: int) -> int:
    """Read everything and keep nothing: the declared size of an entry may be wrong."""
    total = 0
    packed = path.stat().st_size
    for entry in entries:
        with archive.open(entry) as source:
            while chunk := source.read(_CHUNK):
                total += len(chunk)
                if total > max_unpacked:
                    raise ModelError(f"{path.name} unpacks to more than {max_unpacked} bytes: a zip bomb?")
                if total > SMALL and total > MAX_RATIO * packed:
                    raise ModelError(f"{path.name} unpacks to more than {MAX_RATIO} times its size: a zip bomb?")
    return total
