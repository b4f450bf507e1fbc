"""The dashboard in deploy/grafana: its panels and what they ask Prometheus."""

from __future__ import annotations

import json
import re
from typing import Any

from support.up import ROOT

DASHBOARD = ROOT / "deploy" / "grafana" / "hams.json"
VARIABLES = {"$__rate_interval": "30s", "$instance": ".*", "$group": ".*"}
"""What Grafana would put in for them, where all is chosen."""


def dashboard() -> dict[str, Any]:
    """The dashboard as it lies there."""
    found: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return found


def panels() -> list[dict[str, Any]]:
    """All panels but the rows' headings."""
    return [one for one in dashboard()["panels"] if one["type"] != "row"]


def expressions() -> dict[str, str]:
    """What the panels ask, ready to be asked, by panel and query."""
    return {f"{one['title']} {t['refId']}": _filled(t["expr"]) for one in panels() for t in one["targets"]}


def annotations() -> dict[str, str]:
    """What the annotations ask: they have data only where something happened."""
    return {one["name"]: _filled(one["expr"]) for one in dashboard()["annotations"]["list"]}


def _filled(text: str) -> str:
    for name, value in VARIABLES.items():
        text = text.replace(name, value)
    assert not re.search(r"\$\{?\w", text), f"a variable is unknown: {text}"
    return text
