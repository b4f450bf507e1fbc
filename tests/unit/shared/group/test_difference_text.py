"""A difference in words: what is touched, which streams stay, and no secrets."""

from __future__ import annotations

from typing import Any

import pytest

from hams_shared.group.difference import Change, Difference, Effect, difference
from hams_shared.group.difference_text import stays, summary, touched, values, without_secrets
from hams_shared.group.spec import GroupSpec
from support.build import group_record, group_spec, model_ref

SECRET = "rtsp://user:geheim@cam/1"
ALL = "all streams stay: no frame is lost"
GATE = "stream gate stays: no frame of it is lost"
BOTH = "streams cam and gate stay: no frame of them is lost"
NEW = "node eyes is new: loaded beside what runs, then switched with the plan"
STREAMS = {"gate": {"source": "push"}, "cam": {"source": SECRET}}


def spec(**more: Any) -> GroupSpec:
    return group_spec(**{"streams": STREAMS, **more})


def found(new: GroupSpec, old: GroupSpec | None = None) -> Difference:
    return difference(group_record(old or spec()), group_record(new))


def with_stream(**keys: Any) -> GroupSpec:
    return spec(streams={**STREAMS, "cam": {**STREAMS["cam"], **keys}})


@pytest.mark.parametrize(
    ("new", "sentence", "stay"),
    [
        (spec(priority=2), "the scheduler plans anew; frames are served meanwhile", ALL),
        (with_stream(source="rtsp://cam/2"), "stream cam alone is opened anew", GATE),
        (with_stream(paused=True), "stream cam pauses", GATE),
        (with_stream(gate={}), "the pipeline takes it between two frames", ALL),
        (spec(streams={"cam": STREAMS["cam"]}), "stream gate is closed", ALL),
        (spec(streams={**STREAMS, "b": {"source": "push"}}), "stream b is opened", BOTH),
        (spec(nodes=("det", "age", "eyes")), NEW, ALL),
        (spec(nodes=("det",)), "node age goes: switched with the plan", ALL),
    ],
)  # fmt: skip
def test_what_is_touched_and_what_stays(new: GroupSpec, sentence: str, stay: str) -> None:
    change = found(new)
    assert [part.sentence for part in touched(change)] == [sentence]
    assert stays(change, spec(), new) == stay


def test_another_network_is_named_by_its_digest() -> None:
    old = group_record(spec())
    new = old.model_copy(update={"models": {**old.models, "age": model_ref("other")}})
    [part] = touched(difference(old, new))
    assert part.sentence == "node age: loaded beside the old one, then switched between two frames"
    assert (
        values(part.changes[0])
        == f"{old.models['age'].digest[:12]} → {model_ref('other').digest[:12]}, another network"
    )


def test_the_strongest_comes_first() -> None:
    change = found(spec(priority=2, nodes=("det",), streams={"cam": STREAMS["cam"]}))
    assert [part.changes[0].effect for part in touched(change)] == [Effect.GRAPH, Effect.STREAM, Effect.PLAN]


def test_no_secret_is_shown() -> None:
    for new in (with_stream(source="rtsp://user:neu@cam/1"), with_stream(source="push"), spec(streams={})):
        for one in (found(new), found(spec(), new), difference(None, group_record(new))):
            texts = [summary(one), *(values(change) for change in one.changes)]
            texts += [str(without_secrets(c.keys, v)) for c in one.changes for v in (c.old, c.new)]
            assert not any("geheim" in text or "neu" in text for text in texts)
    [change] = found(with_stream(source="rtsp://user:neu@cam/1")).changes
    assert values(change) == "rtsp://cam/1, with other secrets"


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (0.5, 0.6, "0.5 → 0.6"),
        (None, True, "none → true"),
        ("", "x", '"" → x'),
        (["a"], ["a", "b"], '["a"] → ["a", "b"]'),
        ([f"n{i}" for i in range(80)], [f"n{i}" for i in range(81)], "80 → 81 entries: +n80"),
        ([f"n{i}" for i in range(80)], [f"n{i}" for i in range(5, 80)], "80 → 75 entries: -n0, -n1, -n2, -2 more"),
        ([f"n{i}" for i in range(80)], [f"n{i}" for i in range(79, -1, -1)], "80 entries in another order"),
        ([[0.123456, i] for i in range(9)], [[0.654321, i] for i in range(9)], "9 entries, others than before"),
        ({"a": 1}, None, "a: 1 → none"),
    ],
)
def test_values_are_short(old: Any, new: Any, text: str) -> None:
    assert values(Change(("nodes", "n", "task", "k"), old, new, Effect.DECODE)) == text


def test_all_in_one_line() -> None:
    assert summary(Difference()) == "nothing changed"
    more = spec(priority=2, target_fps=3, share=2, deadline_s=3, streams={"gate": STREAMS["gate"]})
    assert summary(found(more)) == "target_fps: none → 3.0; priority: 0 → 2; share: 1.0 → 2.0; and 2 more"
    assert summary(found(spec(streams={"gate": STREAMS["gate"]}))) == "stream cam removed"
