"""Errors of foreign code, of plug-ins: what they may raise, and its description in one line."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

FAULTS = (Exception, SystemExit, KeyboardInterrupt)
"""What foreign code may raise. An agent handles the signal itself, so that a KeyboardInterrupt is the code's own."""


def fault(error: BaseException, origin: str) -> str:
    """Describe an exception of a plug-in's own code: its type and text, and its innermost line below `origin`.

    `origin` is the plug-in's top module. The line is the innermost of all where none is of that module.
    """
    frames = traceback.extract_tb(error.__traceback__)
    folder = _folder(origin)
    own = [frame for frame in frames if folder and frame.filename.startswith(folder)] or list(frames)
    text = " ".join(f"{type(error).__name__}: {error}".split())[:300].removesuffix(":")
    if isinstance(error, SyntaxError) and error.filename:
        return f"{text} [{error.filename}:{error.lineno}]"
    if not own:
        return text
    last = own[-1]
    line = f": {last.line}" if last.line else ""
    return f"{text} [{last.filename}:{last.lineno}, in {last.name}{line}]"


def _folder(origin: str) -> str:
    """Where the code of the module `origin` lies: a package's folder, else its file."""
    path: str | None = getattr(sys.modules.get(origin), "__file__", None)
    if path is None:
        return ""
    return str(Path(path).parent) + "/" if Path(path).name == "__init__.py" else path
