"""Small libraries that the dynamic linker loads before all others (LD_PRELOAD). Needs Linux and a C compiler."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def compiled(source: Path, folder: Path, untested: str) -> Path:
    """Compile `source` into `folder`; return the library. Skips where that cannot be; `untested` begins the reason."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip(f"{untested}: needs Linux and a C compiler (apt install gcc)")
    library = folder / source.with_suffix(".so").name
    argv = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    made = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    if made.returncode:
        pytest.skip(f"{untested}: the compiler says {made.stderr.strip()[-300:]}")
    return library
