"""A part that finds no broker ends, and its supervisor starts it again: so the order of start does not matter."""

from __future__ import annotations

from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
ONCE = {"demo", "ctl"}
"""Services that a person runs, once."""


@pytest.mark.parametrize("name", ["docker-compose.yml", "docker-compose.agent.yml"])
def test_containers_are_started_again(name: str) -> None:
    services = yaml.safe_load((ROOT / name).read_text())["services"]
    policies = {service: content["restart"] for service, content in services.items()}
    assert policies == {service: "no" if service in ONCE else "unless-stopped" for service in services}


@pytest.mark.parametrize("path", sorted((ROOT / "deploy" / "systemd").glob("*.service")), ids=lambda p: p.name)
def test_units_are_started_again(path: Path) -> None:
    unit = ConfigParser(strict=False, interpolation=None)
    unit.read(path)
    assert unit["Service"]["Restart"] == "always"
    assert "StartLimitBurst" not in unit["Unit"]  # systemd's own gives up after five starts within ten seconds,
    assert float(unit["Service"]["RestartSec"]) >= 1  # which a part that waits five seconds for a broker never has
