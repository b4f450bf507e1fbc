"""An edge box sends no telemetry. Importing `openvino` reports to its maker over the internet, unless the package that
does so cannot be imported; OpenVINO has a substitute for that case."""

from __future__ import annotations

import sys


def forbid_telemetry() -> None:
    """Keep OpenVINO from reporting; to be called before it is imported."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
