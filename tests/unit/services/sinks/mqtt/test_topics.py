"""Names of topics: what MQTT forbids is escaped, different names stay different, others' topics are left alone."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hams_services.sinks.mqtt.topics import Topics, check_prefix, escape, identifier
from hams_shared.errors import BadInputError

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300)


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("person", "person"),
        ("traffic light", "traffic light"),
        ("a/b", "a%2Fb"),
        ("c++", "c%2B%2B"),
        ("#1", "%231"),
        ("100%", "100%25"),
        ("a\x00b", "a%00b"),
        ("", "%"),
        ("Wagen – groß", "Wagen – groß"),
    ],
)
def test_what_mqtt_forbids_is_escaped(name: str, escaped: str) -> None:
    assert escape(name) == escaped


@given(NAMES, NAMES)
def test_each_name_is_one_level_of_its_own(one: str, other: str) -> None:
    for name in (one, other):
        level = escape(name)
        assert level
        assert len(level) <= 120
        assert not set(level) & set("+#/\x00")
        assert re.fullmatch(r"[a-zA-Z0-9_-]+", identifier("hams", name))
    assert (escape(one) == escape(other)) == (one == other)
    assert (identifier("hams", one) == identifier("hams", other)) == (one == other)


def test_ids_do_not_depend_on_where_names_are_cut() -> None:
    assert len({identifier("a_b", "c"), identifier("a", "b_c"), identifier("a", "b", "c")}) == 3


@pytest.mark.parametrize("text", ["", "/", "a//b", "a+b", "#", "a/#", "$SYS", "a\nb", "x" * 201])
def test_what_is_no_base_topic(text: str) -> None:
    with pytest.raises(BadInputError, match="is no base topic"):
        check_prefix(text, "base topic")
    assert check_prefix("/home/hams/", "base topic") == "home/hams"


@pytest.mark.parametrize(
    ("topic", "own"),
    [
        ("h/status", True),
        ("h/yard/bridge", True),
        ("h/yard/cam/availability", True),
        ("h/yard/cam/zone/entrance/label/person/count", True),
        ("h/yard/cam/line/gate/in", True),
        ("h/yard/cam/snapshot", True),
        ("h/yard/cam/event", False),  # never retained
        ("h/yard/cam/lamp", False),
        ("h/yard", False),
        ("hams/status", False),
        ("h/yard/cam/zone/a/b/count", False),
        ("homeassistant/status", False),
    ],
)
def test_what_the_bridge_may_remove(topic: str, own: bool) -> None:
    assert Topics("h").is_own(topic) == own


def test_without_discovery_nothing_of_it_is_read() -> None:
    assert Topics("h", "").subscriptions() == ["h/#"]
    assert not Topics("h", "").is_config("/device/x/config")
    assert Topics("h", "ha").is_config(Topics("h", "ha").config("yard", "cam"))
