"""Has processes of tests look for the vendors' hardware where the test put it; Python imports this when it starts."""

from __future__ import annotations

import os
from pathlib import Path

if root := os.environ.get("FAKE_HARDWARE"):
    from hams_agents.backends import memryx, rknn

    memryx.DEV, rknn.COMPATIBLE = Path(root) / "dev", Path(root) / "compatible"
