"""examples/apps/plates.py: what it writes of what was read."""

from __future__ import annotations

import importlib.util
import sqlite3
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hams_client import Result
from support.results import result


@pytest.fixture
def plates() -> ModuleType:
    path = Path(__file__).parents[3] / "examples" / "apps" / "plates.py"
    spec = importlib.util.spec_from_file_location("plates", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def vehicle(captured: float, *texts: dict[str, Any]) -> Result:
    """Of `vehicle`: a car with plates, that say these."""
    plates = [{"box": [0, 0, 9, 3], "label": "plate", "score": 0.9, "text": text} for text in texts]
    car = {"box": [0, 0, 90, 60], "label": "car", "score": 0.8, "plate": {"objects": plates}}
    return result(0, captured / 2, car, captured=captured, stream="gate")


def omz(captured: float, text: str) -> Result:
    """Of `vehicle-omz`: the plate is an object of its own, its text has no score."""
    plate = {"box": [0, 0, 9, 3], "label": "plate", "score": 0.9, "text": {"text": text}}
    return result(0, captured / 2, plate, captured=captured, stream="gate")


def test_texts_are_written_once_a_minute_from_the_least_score_on(plates: ModuleType, tmp_path: Path) -> None:
    database = plates.opened(str(tmp_path / "plates.db"))
    sure, unsure, empty = {"text": "B7K291M", "score": 0.9}, {"text": "X", "score": 0.3}, {"text": "", "score": 0.9}
    lines = list(plates.write(database, vehicle(0.0, sure, unsure, empty), 0.6))
    assert lines == ["1970-01-01T00:00:00.000+00:00 gate B7K291M 0.90"]
    assert list(plates.write(database, vehicle(30.0, sure), 0.6)) == []
    assert len(list(plates.write(database, vehicle(61.0, sure), 0.6))) == 1
    assert database.execute("select count(*), min(score) from plates").fetchone() == (2, 0.9)
    assert database.execute("select media_time_s from plates order by seen").fetchall() == [(0.0,), (30.5,)]
    database.close()


def test_a_text_without_a_score_is_written(plates: ModuleType, tmp_path: Path) -> None:
    database = plates.opened(str(tmp_path / "plates.db"))
    assert list(plates.write(database, omz(0.0, "沪B7K291"), 0.6)) == ["1970-01-01T00:00:00.000+00:00 gate 沪B7K291 -"]
    assert database.execute("select plate, score from plates").fetchall() == [("沪B7K291", None)]
    database.close()


def test_a_database_of_an_older_version_gets_the_column(plates: ModuleType, tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "plates.db")
    old.execute(
        "create table plates (minute text, stream text, plate text, score real, seen text, "
        "primary key (minute, stream, plate))"
    )
    old.execute("insert into plates values ('2026-01-01T00:00', 'gate', 'OLD', 0.9, '2026-01-01T00:00:00')")
    old.commit()
    old.close()
    database = plates.opened(str(tmp_path / "plates.db"))
    assert len(list(plates.write(database, omz(9.0, "NEW"), 0.6))) == 1
    assert database.execute("select plate, media_time_s from plates order by seen").fetchall() == [
        ("NEW", 4.5), ("OLD", None)
    ]  # fmt: skip
    database.close()
