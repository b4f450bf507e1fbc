"""Mutates valid network files and counts the results of importing them, for tests and ``python -m benchmarks fuzz``."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import struct
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hams_services.optimizer.sandbox.process import JobProcess
from hams_shared.errors import DeadlineError, HamsError, InternalError, ModelError

NASTY = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
DEADLINE_S = 20.0
"""Of one file."""


@dataclass
class Tally:
    """Counts of results."""

    files: int = 0
    imported: int = 0
    """Files that are still networks: most changes of weights are harmless."""
    errors: Counter[str] = field(default_factory=Counter)
    """By error code."""
    crashes: int = 0
    """Of the job's process; the error names them."""
    deadlines: int = 0
    unnamed: list[str] = field(default_factory=list)
    """Results that are no named error: must be empty."""
    strayed: list[str] = field(default_factory=list)
    """Files that appeared or changed outside of the job's folder: must be empty."""
    seconds: float = 0.0


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Return `data` changed: bits, bytes, numbers, lengths; parts cut out, doubled, moved or cut off."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        if not changed:
            break
        # Structure is at the ends of most formats; weights in the middle are harmless.
        span = len(changed) if rng.random() < 0.5 else min(len(changed), 4096)
        at = rng.randrange(span) if rng.random() < 0.5 else len(changed) - 1 - rng.randrange(span)
        match rng.randrange(8):
            case 0:
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                changed[at] = rng.randrange(256)
            case 2:
                value = struct.pack("<I", rng.choice(NASTY))
                changed[at : at + 4] = value[: max(0, min(4, len(changed) - at))]
            case 3:
                del changed[at : at + rng.randrange(1, 64)]
            case 4:
                changed[at:at] = changed[at : at + rng.randrange(1, 64)]
            case 5:
                del changed[at:]
            case 6:
                changed[at:at] = rng.randbytes(rng.randrange(1, 16))
            case _:
                other = rng.randrange(len(changed))
                length = rng.randrange(1, 32)
                changed[at : at + length] = changed[other : other + length]
    return bytes(changed)


def mutations(seeds: Sequence[Path], count: int, seed: int) -> Iterator[tuple[Path, dict[str, bytes]]]:
    """Yield (seed file, suffix → content) `count` times, the seeds in turn; an IR is changed in either file."""
    contents = {path: path.read_bytes() for path in seeds}
    weights = {path: path.with_suffix(".bin").read_bytes() for path in seeds if path.suffix == ".xml"}
    for index in range(count):
        path = seeds[index % len(seeds)]
        rng = random.Random(f"{seed} {index}")
        files = {path.suffix: contents[path]}
        if path in weights:
            files[".bin"] = weights[path]
        target = ".bin" if path in weights and rng.random() < 0.1 else path.suffix
        files[target] = mutate(files[target], rng)
        yield path, files


def run(seeds: Sequence[Path], count: int, folder: Path, job: JobProcess, seed: int = 0) -> Tally:
    """Import `count` mutations of `seeds` in `job`, whose folder is below `folder`; all else there is watched."""
    tally = Tally()
    start = time.monotonic()
    hidden = folder / "given"
    hidden.mkdir(parents=True, exist_ok=True)
    for index, (path, files) in enumerate(mutations(seeds, count, seed)):
        place = hidden / f"model{path.suffix}"
        for suffix, content in files.items():
            place.with_suffix(suffix).write_bytes(content)
        before = _watched(folder, job.folder)
        out = job.folder / f"{index}"
        tally.files += 1
        try:
            job.call("import", timeout=DEADLINE_S, source=str(place), out=str(out))
            tally.imported += 1
        except InternalError as error:
            tally.unnamed.append(f"{index}: {error}")
        except DeadlineError as error:
            tally.deadlines += 1
            tally.errors[error.code] += 1
        except HamsError as error:
            tally.errors[error.code] += 1
            tally.crashes += isinstance(error, ModelError) and "the process that worked on it" in error.text
        except Exception as error:
            tally.unnamed.append(f"{index}: {type(error).__name__}: {error}")
        if _watched(folder, job.folder) != before:
            tally.strayed.append(f"{index}")
        shutil.rmtree(out, ignore_errors=True)
        for part in hidden.iterdir():
            part.unlink()
    tally.seconds = time.monotonic() - start
    return tally


def _watched(folder: Path, job: Path) -> str:
    """Return a digest of the names, sizes and times of all files below `folder` but outside of `job`."""
    found = hashlib.sha256()
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if Path(root, name) != job)
        for name in sorted(files):
            status = os.lstat(os.path.join(root, name))
            found.update(f"{root}/{name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return found.hexdigest()
