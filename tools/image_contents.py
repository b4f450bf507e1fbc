"""What else an image contains: ``image_contents.py SBOM IMAGE``, run inside the image by `make sbom`.

Adds to a CycloneDX document of the Python packages: Debian's packages, Python itself, and the shared libraries that
wheels carry. Standard library only.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Component = dict[str, Any]
FIELDS = r"${Package}\t${Version}\t${Architecture}\t${source:Package}\t${source:Version}\n"
UNREADABLE = "LicenseRef-copyright-file"
"""Of a Debian package whose copyright file names its licences in prose only."""
_LICENSE = re.compile(r"^License:[ \t]*(\S.*?)\s*$", re.MULTILINE)
_COMMON = re.compile(r"/usr/share/common-licenses/([A-Za-z][A-Za-z0-9.+-]*[A-Za-z0-9+])")


def licences_of(copyright_text: str) -> list[str]:
    """Return the licences that a Debian copyright file names: its fields, and Debian's common licences.

    A field that is prose, as in files that only look machine-readable, counts as unreadable.
    """
    found = {name if len(name) <= 60 else UNREADABLE for name in _LICENSE.findall(copyright_text)}
    found |= set(_COMMON.findall(copyright_text))
    return sorted(found) or [UNREADABLE]


def debian(packages: str, doc: Path, distribution: str) -> Iterator[Component]:
    """Yield Debian's packages, as `dpkg-query` lists them with FIELDS; `doc` is /usr/share/doc."""
    for line in packages.splitlines():
        name, version, arch, source, source_version = line.split("\t")
        file = doc / name / "copyright"
        text = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
        purl = f"pkg:deb/debian/{name}@{version.replace(':', '%3A')}?arch={arch}&distro={distribution}"
        yield {
            "type": "library",
            "bom-ref": purl,
            "name": name,
            "version": version,
            "purl": purl,
            "licenses": [{"license": {"name": licence}} for licence in licences_of(text)] if text else [],
            "properties": [{"name": "debian:source", "value": f"{source} {source_version}"}],
        }


def bundled(packages: Path) -> Iterator[Component]:
    """Yield the shared libraries that wheels in `packages` carry, in folders `NAME.libs` and `NAME/libs`."""
    for file in sorted(packages.rglob("*.so*")):
        folder = file.parent
        if folder.name.endswith(".libs") or folder.name == "libs":
            wheel = folder.name.removesuffix(".libs") if folder.name != "libs" else folder.parent.name
            yield {
                "type": "library",
                "bom-ref": f"{wheel}/{file.name}",
                "group": wheel,
                "name": re.split(r"[-.]", file.name)[0],
                "version": "",
                "properties": [{"name": "wheel:file", "value": file.relative_to(packages).as_posix()}],
            }


def python() -> Iterator[Component]:
    """Yield the interpreter, unless it is one of Debian's packages."""
    if Path(sys.executable).resolve().is_relative_to("/usr/local"):
        purl = f"pkg:generic/cpython@{platform.python_version()}"
        licence = [{"license": {"id": "Python-2.0.1"}}]
        component = {"type": "application", "bom-ref": purl, "name": "cpython", "purl": purl, "licenses": licence}
        yield component | {"version": platform.python_version()}


def main(document: Path, image: str) -> None:
    """Add to `document` what this image contains."""
    bom = json.loads(document.read_text(encoding="utf-8"))
    listed = subprocess.run(["dpkg-query", "-W", "-f", FIELDS], capture_output=True, text=True, check=True).stdout
    release = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    [packages] = Path("/opt/hams").glob("lib/python*/site-packages")
    bom["components"] += [*debian(listed, Path("/usr/share/doc"), release), *python(), *bundled(packages)]
    bom["metadata"]["component"] = {"type": "container", "bom-ref": f"hams:{image}", "name": "hams", "version": image}
    document.write_text(json.dumps(bom, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
