"""Debian's Prometheus and its promtool, for tests; where they are missing a test is skipped."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Self

import pytest
import yaml

from support.ports import free_port
from support.up import ROOT
from support.wait import until_sync

RULES = ROOT / "deploy" / "prometheus" / "hams.rules.yml"


def program(name: str) -> str:
    """Path of `prometheus` or `promtool`; skips where it is missing."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"NOT TESTED: no {name} here (apt install prometheus)")
    return found


def promtool(*words: str | Path, stdin: str = "") -> str:
    """Run promtool, expect that it finds nothing wrong, and return its output."""
    argv = [program("promtool"), *map(str, words)]
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


class Prometheus:
    """A running one that scrapes `target` each second by our rules, whose alerts fire at once."""

    def __init__(self, folder: Path, target: str) -> None:
        self._program = program("prometheus")
        self._folder = folder
        self._port = free_port()
        rules = re.sub(r"^( +for:) .*$", r"\1 0s", RULES.read_text(encoding="utf-8"), flags=re.MULTILINE)
        (folder / RULES.name).write_text(rules, encoding="utf-8")
        config = yaml.safe_load((RULES.parent / "prometheus.yml").read_text(encoding="utf-8"))
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
        self._config = folder / "prometheus.yml"
        self._config.write_text(yaml.safe_dump(config))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with (self._folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    self._program,
                    f"--config.file={self._config}",
                    f"--storage.tsdb.path={self._folder / 'tsdb'}",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                ],
                stdout=log,
                stderr=log,
            )
        until_sync(self._ready, 30, "prometheus")
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)

    def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "prometheus.log").read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _ask(self, path: str, **query: str) -> Any:
        url = f"http://127.0.0.1:{self._port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{query}: {error.read().decode()}") from None

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Return the labels and values of an expression now. AssertionError: it cannot be read."""
        found = self._ask("query", query=expression)["result"]
        return [(one["metric"], float(one["value"][1])) for one in found]

    def firing(self) -> dict[str, list[dict[str, str]]]:
        """Return the labels of all alerts that fire, by their name."""
        found: dict[str, list[dict[str, str]]] = {}
        for one in self._ask("alerts")["alerts"]:
            if one["state"] == "firing":
                found.setdefault(one["labels"]["alertname"], []).append(one["labels"])
        return found
