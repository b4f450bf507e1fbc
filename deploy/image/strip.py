"""Make an installed environment smaller: what HAMS never opens goes, the rest is compiled. ``strip.py FOLDER``.

A read-only image cannot keep compiled modules for the next start, so they are made here. They hold no time of their
source, so that two builds of an image have the same files.
"""

from __future__ import annotations

import compileall
import py_compile
import shutil
import sys
from pathlib import Path

FOLDERS = ("tests", "test", "testing/data", "backend/test", "include", "datasets")
"""Of packages, and only below them: numpy.testing and scipy.datasets themselves are imported by their packages."""
KEEP = ("numpy/testing", "scipy/datasets", "sklearn/datasets", "onnx/test")


def main(root: Path) -> None:
    """Strip and compile the packages below `root`."""
    [packages] = root.glob("lib/python*/site-packages")
    before = _size(packages)
    for name in FOLDERS:
        for folder in sorted(packages.rglob(name), reverse=True):
            relative = folder.relative_to(packages).as_posix()
            if folder.is_dir() and folder.parent != packages and not relative.startswith(KEEP):
                shutil.rmtree(folder)
    compileall.compile_dir(
        packages, quiet=2, workers=0, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    )
    sys.stdout.write(f"{before >> 20} MiB of packages before, {_size(packages) >> 20} MiB now, compiled\n")


def _size(folder: Path) -> int:
    return sum(file.lstat().st_size for file in folder.rglob("*") if not file.is_dir())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
