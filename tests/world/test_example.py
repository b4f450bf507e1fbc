"""The example of a world test in docs/testing.md works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from support.world.system import System

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"


async def test_the_example_of_the_page(world: System) -> None:
    [code] = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    [test] = [value for name, value in names.items() if name.startswith("test_")]
    await test(world)
