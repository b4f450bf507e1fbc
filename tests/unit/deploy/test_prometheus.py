"""The rules for Prometheus and the dashboard for Grafana: valid, tested, and of metrics that exist."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from hams_services.monitor.exporter import HamsCollector
from support.grafana import DASHBOARD, annotations, dashboard, expressions, panels
from support.prometheus import RULES, promtool
from support.snapshots import system

FOLDER = RULES.parent
PAGE = (RULES.parents[2] / "docs" / "monitoring.md").read_text(encoding="utf-8")


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def exported() -> dict[str, set[str]]:
    """Each series that a site shows, and its labels."""
    collector = HamsCollector()
    collector.show(system(), time.monotonic())
    found: dict[str, set[str]] = {}
    for family in collector.collect():
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def asked(expression: str) -> Counter[str]:
    """The metrics of ours that an expression names."""
    return Counter(re.findall(r"\bhams[_:][a-z0-9_:]+", expression))


def test_promtool_takes_the_rules_and_the_example_of_a_configuration() -> None:
    assert "SUCCESS" in promtool("check", "rules", RULES)
    assert "SUCCESS" in promtool("check", "config", FOLDER / "prometheus.yml")


def test_alerts_fire_when_they_should_and_only_then() -> None:
    promtool("test", "rules", FOLDER / "hams.test.yml")


def test_each_alert_has_a_test() -> None:
    tested = {
        one["alertname"]
        for test in yaml.safe_load((FOLDER / "hams.test.yml").read_text(encoding="utf-8"))["tests"]
        for one in test.get("alert_rule_test", ())
        if one["exp_alerts"]
    }
    assert tested == {rule["alert"] for rule in rules() if "alert" in rule}


def test_each_alert_is_explained() -> None:
    shown = set(re.findall(r"^\| `(Hams\w+)`", PAGE, re.MULTILINE))
    assert shown == {rule["alert"] for rule in rules() if "alert" in rule}
    for rule in rules():
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("critical", "warning", "info")
            assert rule["annotations"].keys() == {"summary", "description"}


def test_rules_and_panels_ask_for_metrics_that_exist() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    known = exported().keys() | recorded
    for name, text in (expressions() | annotations()).items() | {(str(rule), rule["expr"]) for rule in rules()}:
        assert not asked(text).keys() - known, name


def test_labels_of_panels_exist() -> None:
    """A label that is misspelled in a legend or selector gives an empty panel, and no error."""
    labels = exported()
    for panel in panels():
        for target in panel["targets"]:
            of = set().union(*(labels.get(name, set()) for name in asked(target["expr"])))
            named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            named |= set(re.findall(r"[{,] *(\w+)=~?\"", target["expr"]))
            assert named <= of | {"instance", "job", "le", "alertname", "alertstate"}, panel["title"]


def test_panels_of_the_dashboard_are_parsed_by_prometheus(tmp_path: Path) -> None:
    path = tmp_path / "panels.yml"
    found = [{"record": f"panel:{n}", "expr": text} for n, text in enumerate((expressions() | annotations()).values())]
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": found}]}))
    assert f"{len(found)} rules found" in promtool("check", "rules", path)


def test_the_dashboard_is_one_of_grafana() -> None:
    """By the types that Grafana 10.1 publishes of its own; queries of data sources are not among them."""
    sdk = pytest.importorskip("grafana_foundation_sdk.models.dashboard", reason="no grafana-foundation-sdk here")
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins

    register_default_plugins()
    kept = json.loads(JSONEncoder().encode(sdk.Dashboard.from_json(dashboard())))
    lost = {re.sub(r"\d+", "N", path) for path in missing(dashboard(), kept)}
    assert lost <= {  # what Prometheus' own plug-in adds
        ".templating.list.N.definition",
        ".annotations.list.N.step",
        ".annotations.list.N.titleFormat",
        ".annotations.list.N.tagKeys",
    }


def missing(of: Any, kept: Any, at: str = "") -> list[str]:
    """Paths of what is in `of` and not, or otherwise, in `kept`."""
    if isinstance(of, dict) and isinstance(kept, dict):
        return [path for key, value in of.items() for path in missing(value, kept.get(key), f"{at}.{key}")]
    if isinstance(of, list) and isinstance(kept, list) and len(of) == len(kept):
        return [path for n, pair in enumerate(zip(of, kept, strict=True)) for path in missing(*pair, f"{at}.{n}")]
    return [] if of == kept else [at]


def test_the_dashboard_can_be_imported() -> None:
    board = dashboard()
    assert board["uid"] == "hams"
    assert "id" not in board, "an id of one Grafana: import would replace another dashboard"
    ids = [one["id"] for one in board["panels"]]
    assert len(ids) == len({*ids})
    assert [one["name"] for one in board["templating"]["list"]] == ["datasource", "instance", "group"]
    assert set(re.findall(r'"uid": "(.*?)"', DASHBOARD.read_text(encoding="utf-8"))) == {"hams", "${datasource}"}
    for one, other in combinations([panel["gridPos"] for panel in board["panels"]], 2):
        apart = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert apart or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert one["x"] + one["w"] <= 24
