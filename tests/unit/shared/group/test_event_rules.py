"""Hours and time zones of event rules: what texts mean, by the clock on the wall, and what is wrong with others."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from hams_shared.errors import GroupSpecError
from hams_shared.group.event_rules import DAYS, EventsSpec, Hours, parse_hours, parse_time_zone, wall_clock
from hams_shared.group.spec import parse_group

ALL = frozenset(range(7))
WORK = frozenset(range(5))
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("mon-fri 08:00-18:00", Hours(WORK, 480, 1080)),
        ("sat,sun", Hours(frozenset({5, 6}), 0, 1440)),
        ("22:00-05:00", Hours(ALL, 1320, 300)),
        ("fri-mon 7:30-24:00", Hours(frozenset({4, 5, 6, 0}), 450, 1440)),
        ("mon,wed-thu,sun 00:00-00:01", Hours(frozenset({0, 2, 3, 6}), 0, 1)),
        ("  Sat , Sun   22:00 - 00:00 ", Hours(frozenset({5, 6}), 1320, 0)),
        ("tue-tue", Hours(frozenset({1}), 0, 1440)),
        ("00:00-24:00", Hours(ALL, 0, 1440)),
    ],
)
def test_texts_mean_hours(text: str, hours: Hours) -> None:
    assert parse_hours(text) == hours


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must not be empty: write days, times or both"),
        ("mon-fry 08:00-18:00", "'fry' is no day of the week"),
        ("monday", "'monday' is no day of the week, which are mon, tue, wed, thu, fri, sat, sun (did you mean mon?)"),
        ("workdays 08:00-10:00", "'workdays' is no day of the week"),
        ("mon, 08:00-10:00", "'' is no day of the week"),
        ("mon- 08:00-10:00", "'' is no day of the week"),
        ("mon 8-18", "'8-18' is no span of time: write days, times or both, as in `mon-fri 08:00-18:00`"),
        ("08:00", "'08:00' is no span of time"),
        ("08:00-18:00 mon", "'08:00-18:00 mon' is no span of time"),
        ("08:60-18:00", "'08:60-18:00' has a time that no clock shows: from 00:00 to 23:59, and 24:00 as an end"),
        ("08:00-24:01", "has a time that no clock shows"),
        ("24:00-05:00", "has a time that no clock shows"),
        ("08:00-08:00", "is no time at all: its start is its end; 00:00-24:00 is the whole day"),
    ],
)  # fmt: skip
def test_others_are_refused_with_what_to_write(text: str, said: str) -> None:
    with pytest.raises(ValueError) as error:
        parse_hours(text)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("text", "at", "holds"),
    [
        ("mon-fri 08:00-18:00", "mon 08:00", True),
        ("mon-fri 08:00-18:00", "mon 07:59", False),
        ("mon-fri 08:00-18:00", "fri 17:59", True),
        ("mon-fri 08:00-18:00", "fri 18:00", False),
        ("mon-fri 08:00-18:00", "sat 12:00", False),
        ("sat,sun", "sat 00:00", True),
        ("sat,sun", "sun 23:59", True),
        ("sat,sun", "mon 00:00", False),
        ("22:00-05:00", "wed 21:59", False),
        ("22:00-05:00", "wed 22:00", True),
        ("22:00-05:00", "thu 04:59", True),
        ("22:00-05:00", "thu 05:00", False),
        ("sun 22:00-05:00", "sun 04:00", False),
        ("sun 22:00-05:00", "sun 23:00", True),
        ("sun 22:00-05:00", "mon 04:00", True),
        ("sun 22:00-05:00", "mon 23:00", False),
        ("fri 22:00-00:00", "fri 23:59", True),
        ("fri 22:00-00:00", "sat 00:00", False),
    ],
)
def test_hours_hold(text: str, at: str, holds: bool) -> None:
    day, clock = at.split()
    hour, minute = map(int, clock.split(":"))
    assert parse_hours(text).hold(DAYS.index(day), 60 * hour + minute) is holds


@pytest.mark.parametrize(
    ("utc", "zone", "day", "clock"),
    [
        ("2026-03-29 00:59", BERLIN, "sun", "01:59"),
        ("2026-03-29 01:00", BERLIN, "sun", "03:00"),
        ("2026-10-25 00:30", BERLIN, "sun", "02:30"),
        ("2026-10-25 01:30", BERLIN, "sun", "02:30"),
        ("2026-10-25 02:00", BERLIN, "sun", "03:00"),
        ("2026-06-30 22:00", BERLIN, "wed", "00:00"),
        ("2026-12-31 22:59", BERLIN, "thu", "23:59"),
        ("2026-01-01 03:30", ZoneInfo("America/New_York"), "wed", "22:30"),
        ("2026-01-01 20:00", ZoneInfo("Asia/Kathmandu"), "fri", "01:45"),
    ],
)
def test_clocks_on_walls_know_daylight_saving(utc: str, zone: ZoneInfo, day: str, clock: str) -> None:
    now = datetime.fromisoformat(utc).replace(tzinfo=UTC).timestamp()
    hour, minute = map(int, clock.split(":"))
    assert wall_clock(now, zone) == (DAYS.index(day), 60 * hour + minute)


def test_without_a_time_zone_the_hosts_clock_counts() -> None:
    now = 1_790_000_000.0
    local = datetime.fromtimestamp(now)
    assert parse_time_zone("") is None
    assert wall_clock(now, None) == (local.weekday(), 60 * local.hour + local.minute)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Europe/Berlinn", "'Europe/Berlinn' is no time zone (did you mean Europe/Berlin?)"),
        ("berlin", "(did you mean Europe/Berlin?)"),
        ("Europe", "is no time zone"),
        ("nowhere", "they are named as in Europe/Berlin or America/New_York"),
        ("../../etc/passwd", "is no time zone"),
        ("/etc/localtime", "is no time zone"),
        ("a\0b", "is no time zone"),
    ],
)
def test_unknown_time_zones_are_refused(name: str, said: str) -> None:
    with pytest.raises(ValueError) as error:
        parse_time_zone(name)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("events", "said"),
    [
        (
            {"rules": {"night": {"hours": ["22:00-05:00", "mon-fry"]}}},
            "events.rules.night.hours.1: 'fry' is no day of the week",
        ),
        ({"time_zone": "Europe/Berlinn"}, "events.time_zone: 'Europe/Berlinn' is no time zone (did you mean"),
        ({"dwell_s": {"yard": -1}}, "events.dwell_s.yard: must be greater than 0"),
        ({"dwell_s": {"yard": float("nan")}}, "events.dwell_s.yard: must be less than or equal to 86400"),
    ],
)  # fmt: skip
def test_mistakes_are_found_at_deploy(events: object, said: str) -> None:
    node = {"model": "person.onnx", "input": {"size": [320, 320]}, "task": {"type": "ssd"}}
    group = {"name": "yard", "nodes": {"person": node}, "events": events}
    with pytest.raises(GroupSpecError) as error:
        parse_group(group)
    assert str(error.value).startswith(f"group: {said}")


def test_what_is_right_survives_the_wire() -> None:
    spec = EventsSpec.model_validate({
        "rules": {"night": {"hours": ["22:00-05:00", "sat,sun"], "min_age_s": 10, "zones": ["yard"]}},
        "dwell_s": {"yard": 10},
        "time_zone": "Europe/Berlin",
    })  # fmt: skip
    assert EventsSpec.model_validate(spec.model_dump()) == spec
