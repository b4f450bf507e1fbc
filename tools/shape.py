"""The shape of the product's code: ``python tools/shape.py [ROOT]``; `make shape`.

It fails when a file has more than 400 lines, a function more than 40, or modules import each other in a circle. All
imports count: those under TYPE_CHECKING and those inside functions, too.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

PARTS = ("shared", "scheduler", "agents", "services")
FILE_LINES = 400
FUNCTION_LINES = 40


def read(root: Path) -> dict[str, tuple[Path, str]]:
    """Return path and text of each module by its name."""
    modules = {}
    for part in PARTS:
        for path in sorted((root / part).rglob("*.py")):
            names = path.relative_to(root / part).with_suffix("").parts
            name = ".".join(names[:-1] if names[-1] == "__init__" else names)
            modules[name] = (path.relative_to(root), path.read_text(encoding="utf-8"))
    return modules


def too_long(path: Path, text: str, tree: ast.Module) -> Iterator[str]:
    """Yield what is longer than it may be."""
    lines = len(text.splitlines())
    if lines > FILE_LINES:
        yield f"{path}: {lines} lines; at most {FILE_LINES}"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES:
                yield f"{path}:{node.lineno}: {node.name} has {lines} lines; at most {FUNCTION_LINES}"


def imports(tree: ast.Module, modules: dict[str, tuple[Path, str]]) -> set[str]:
    """Return the modules of the product that `tree` imports. The product has no relative imports."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {one if one in modules else node.module for one in inner}
    return found & set(modules)


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected components of two or more modules (Tarjan, 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in index:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == index[name]:
            at = stack.index(name)
            circle, stack[at:] = stack[at:], []
            if len(circle) > 1:
                found.append(sorted(circle))

    for name in sorted(graph):
        if name not in index:
            visit(name)
    return found


def faults(root: Path) -> list[str]:
    """Return everything that is wrong with the code below `root`, one line each."""
    modules = read(root)
    trees = {name: ast.parse(text) for name, (_, text) in modules.items()}
    long = [line for name, (path, text) in modules.items() for line in too_long(path, text, trees[name])]
    graph = {name: imports(tree, modules) - {name} for name, tree in trees.items()}
    return long + ["circle: " + " ".join(circle) for circle in circles(graph)]


if __name__ == "__main__":
    found = faults(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
    print("\n".join(found) or "shape: ok")
    sys.exit(bool(found))
