"""Stand-ins for the Python packages of vendors whose hardware is not here.

They are packages of the vendors' own names in this folder, which tests put on ``sys.path``.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
