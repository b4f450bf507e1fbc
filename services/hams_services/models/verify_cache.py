"""Check the cache: read every file and compare it with its digest.

https/DIGEST/NAME, pypi/PACKAGE/PATH    the digest of the zoo, else the one next to it
models/SHA-256/model.*                  files that agents fetched; the folder's name
wheels/PACKAGE/NAME.whl                 the checksums inside
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hams_services.models.files import ALGORITHMS, algorithm_of, digest_of, recorded
from hams_services.models.manifest import Manifest, ZooEntry
from hams_services.models.pull import places

Verdict = Literal["good", "bad", "part"]


@dataclass(frozen=True)
class Checked:
    """The result for one file."""

    path: Path
    size: int
    verdict: Verdict
    why: str = ""
    model: str = ""
    """The zoo's network that it belongs to, if any."""


def promises(manifests: dict[str, Manifest], cache: Path) -> dict[Path, tuple[str, str]]:
    """Return the network and the digest of every file the zoo would keep in `cache`."""
    found: dict[Path, tuple[str, str]] = {}
    for manifest in manifests.values():
        for variant in manifest.variants:
            entry = ZooEntry(manifest, variant, None)
            for file, path in zip(entry.files, places(entry, cache), strict=True):
                found[path] = (entry.label, file.digest)
    return found


def kept_files(cache: Path) -> list[Path]:
    """Return all files of the cache but digests and notes, in order."""
    found: list[Path] = []
    for folder in ("https", "pypi", "models", "wheels"):
        for path in (cache / folder).rglob("*"):
            if path.is_file() and not path.name.startswith(".") and not path.name.endswith(".part.from"):
                suffix = path.suffix.removeprefix(".")
                if suffix not in ALGORITHMS.values() or not path.with_suffix("").is_file():
                    found.append(path)
    return sorted(found)


def verify(cache: Path, manifests: dict[str, Manifest], progress: Callable[[int, int], None]) -> Iterator[Checked]:
    """Read the cache's files and yield the verdict on each. `progress` receives bytes."""
    known = promises(manifests, cache)
    paths = kept_files(cache)
    sizes = [path.stat().st_size for path in paths]
    done = 0
    for path, size in zip(paths, sizes, strict=True):
        model, digest = known.get(path, ("", ""))
        try:
            verdict, why = _look(path, path.relative_to(cache).parts[0], digest)
        except OSError as error:
            verdict, why = "bad", f"cannot be read: {error.strerror}"
        done += size
        progress(done, sum(sizes))
        yield Checked(path, size, verdict, why, model)


def _look(path: Path, folder: str, promised: str) -> tuple[Verdict, str]:
    if path.suffix == ".part":
        return "part", "`hams-ctl models pull` continues it"
    if folder == "wheels":
        return _wheel(path)
    if folder == "models":
        return _agents(path)
    expected = [promised] if promised else list(recorded(path).values())
    if not expected:
        return "bad", "there is no digest next to it"
    for digest in expected:
        if len(digest) not in ALGORITHMS:
            return "bad", "the digest next to it is damaged"
        algorithm = algorithm_of(digest)
        found = digest_of(path, algorithm)
        if found != digest:
            return "bad", f"has {algorithm.upper().replace('SHA', 'SHA-')} {found}, not {digest}"
    return "good", ""


def _agents(path: Path) -> tuple[Verdict, str]:
    """Files of one network lie in a folder of its digest: the file's own, or that of its parts' digests in a row."""
    parts = sorted(path.parent.iterdir(), key=lambda each: each.suffix != ".xml")
    digests = [digest_of(part) for part in parts]
    found = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return ("good", "") if found == path.parent.name else ("bad", "its folder's name is not its digest")


def _wheel(path: Path) -> tuple[Verdict, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        return "bad", f"is not a complete wheel: {error}"
    return ("bad", f"its {wrong} is damaged") if wrong else ("good", "")
