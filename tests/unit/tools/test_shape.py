"""`make shape` finds what it is there to find."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SHAPE = Path(__file__).parents[3] / "tools" / "shape.py"


def shape(root: Path, files: dict[str, str]) -> tuple[int, list[str]]:
    for name, text in files.items():
        path = root / "shared" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    done = subprocess.run([sys.executable, str(SHAPE), str(root)], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout.splitlines()


def function(lines: int) -> str:
    return "def f():\n" + "    pass\n" * (lines - 1)


def test_what_fits(tmp_path: Path) -> None:
    files = {"p/a.py": function(40) + "\n" * 360, "p/b.py": "from p import a\n", "p/__init__.py": ""}
    assert shape(tmp_path, files) == (0, ["shape: ok"])


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ({"p/a.py": "\n" * 401}, "shared/p/a.py: 401 lines; at most 400"),
        ({"p/a.py": "class A:\n    async " + function(41).replace("    pass", "        pass")}, "f has 41 lines"),
        ({"p/a.py": "from p import b\n", "p/b.py": "import p.a\n"}, "circle: p.a p.b"),
        ({"p/a.py": "from p.b import x\n", "p/b.py": "def x():\n    from p import a\n"}, "circle: p.a p.b"),
        (
            {"p/a.py": "from p.b import x\n", "p/b.py": "if TYPE_CHECKING:\n    from p.a import y\n"},
            "circle: p.a p.b",
        ),
    ],
    ids=["file", "function", "modules", "inside-function", "type-only"],
)
def test_what_does_not(tmp_path: Path, files: dict[str, str], line: str) -> None:
    code, lines = shape(tmp_path, files)
    assert code == 1
    assert any(line in one for one in lines), lines
