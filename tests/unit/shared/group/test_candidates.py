"""Names, group files and rules of candidates."""

from __future__ import annotations

from typing import Any

import pytest

from hams_shared.errors import BadInputError, GroupSpecError
from hams_shared.group.candidates import (
    LONGEST,
    LOWEST,
    Mode,
    canary_fits,
    candidate_name,
    check_name,
    compile_rule,
    judge,
    promoted_spec,
    tried_spec,
)
from hams_shared.group.spec import GroupSpec, parse_group
from support.build import group_spec

ZONE = {"zones": {"gate": [[0, 0], [1, 0], [1, 1]]}, "tiles": {"grid": [2, 2]}}
CAMERA = {"source": "rtsp://admin:secret@10.0.0.9/main", "gate": {}, **ZONE}


def with_rules(det: dict[str, Any], age: dict[str, Any], **more: Any) -> GroupSpec:
    spec = group_spec(**more).model_dump(mode="json", exclude_unset=True)
    spec["nodes"]["det"] |= det
    spec["nodes"]["age"] |= age
    return parse_group(spec)


SERVING = with_rules({}, {"when": "zone == 'gate'"}, streams={"door": CAMERA}, target_fps=20, priority=4, share=2)


@pytest.mark.parametrize(
    ("mode", "priority", "live"), [("shadow", LOWEST, "live"), ("canary", 4, "live")], ids=["shadow", "canary"]
)
def test_a_candidate_is_weighed_as_its_share_and_reads_no_streams(mode: Mode, priority: int, live: str) -> None:
    mine = with_rules({}, {"when": "zone == 'gate'"}, strategy="optimal", priority=9, streams={"door": ZONE | CAMERA})
    tried = tried_spec(mine, SERVING, mode, 0.1)
    assert (tried.name, tried.priority, tried.target_fps) == ("face--candidate", priority, pytest.approx(2.0))
    assert (tried.strategy, tried.share) == (SERVING.strategy, 2)
    [stream] = tried.streams.values()
    assert (stream.source, stream.mode, stream.gate, stream.zones.keys()) == ("push", live, None, {"gate"})
    assert "secret" not in tried.model_dump_json()
    assert tried.chosen == SERVING.chosen == {"age"}  # as tiles make it: agents pass no crops on
    own = {"strategy": mine.strategy, "priority": 9, "target_fps": None, "share": 1.0}
    promoted = promoted_spec(tried, SERVING, own)
    assert promoted == mine.model_copy(update={"streams": SERVING.streams})


def test_a_group_without_a_target_is_weighed_by_frames() -> None:
    assert tried_spec(group_spec(), group_spec(), "shadow", 0.25).target_fps == 0.25


def test_a_candidate_that_does_not_go_with_the_streams_is_refused_by_name() -> None:
    tried = tried_spec(SERVING, SERVING, "shadow", 0.1)
    other = with_rules({}, {}, streams={"door": {"source": "push", "zones": {"yard": [[0, 0], [1, 0], [1, 1]]}}})
    with pytest.raises(GroupSpecError, match="the candidate for face: .*'gate'"):
        promoted_spec(tried, other, {})


def test_names() -> None:
    assert candidate_name("a" * LONGEST) == "a" * LONGEST + "--candidate"
    with pytest.raises(BadInputError, match="too long for a candidate"):
        candidate_name("a" * (LONGEST + 1))
    check_name("face-candidate")
    with pytest.raises(GroupSpecError, match="names the candidate for a group"):
        check_name("face--candidate")


@pytest.mark.parametrize(
    ("serving", "tried", "why"),
    [
        (group_spec(), group_spec(nodes=("det", "mood")), ""),
        (with_rules({"track": {}}, {}), with_rules({"track": {}}, {}), ""),
        (with_rules({"track": {}}, {}), group_spec(), "not the same rules as what serves at node det"),
        (group_spec(), with_rules({}, {"when": "score > 0.5"}), "at node age"),
        (
            with_rules({"track": {}}, {}),
            with_rules({"track": {}}, {"crop": {"labels": ["face"]}}),
            "at node age",
        ),
    ],
)
def test_a_canary_has_the_rules_of_what_serves(serving: GroupSpec, tried: GroupSpec, why: str) -> None:
    found = canary_fits(tried, serving)
    assert (why in found) if why else found == ""


@pytest.mark.parametrize(
    ("now", "why"),
    [
        ({"mask": [[[0, 0], [1, 0], [1, 1]]]}, "mask, roi or tiles of stream door have changed"),
        ({"roi": [0, 0, 0.5, 0.5]}, "mask, roi or tiles of stream door have changed"),
        ({"tiles": {"grid": [2, 1]}}, "mask, roi or tiles of stream door have changed"),
        ({"zones": {"yard": [[0, 0], [1, 0], [1, 1]]}}, ""),
    ],
)
def test_a_canary_looks_at_the_same_parts_of_the_frames(now: dict[str, Any], why: str) -> None:
    before = group_spec(streams={"door": {"source": "push"}})
    tried = tried_spec(before, before, "canary", 0.1)
    found = canary_fits(tried, group_spec(streams={"door": {"source": "push", **now}}))
    assert (why in found) if why else found == ""


@pytest.mark.parametrize(
    ("rule", "values", "verdict"),
    [
        ("agreement >= 0.9", {"agreement": 0.95}, "kept"),
        ("agreement >= 0.9", {"agreement": 0.85}, "broken"),
        ("agreement >= 0.9", {"agreement": 0.85, "frames": 99.0}, None),  # not tried enough
        ("agreement >= 0.9 and frames >= 500", {"agreement": 0.95}, None),  # it only waits
        ("agreement >= 0.9 and frames >= 500", {"agreement": 0.95, "frames": 500.0}, "kept"),
        ("agreement >= 0.9 and frames >= 500", {"agreement": 0.5}, "broken"),
        ("agreement >= 0.9", {"failed": 0.5}, None),  # nothing compared yet
        ("agreement >= 0.9", {"failed": 1.0}, "broken"),  # nor will it be
        ("failed < 0.1", {"failed": 0.2}, "broken"),
        ("latency_p95 <= 1.2 or work_p50 < 1", {"latency_p95": 2.0, "work_p50": 0.5}, "kept"),
        ("skipped == 0", {"skipped": 0.0}, "kept"),
    ],
)
def test_a_rule_is_judged_once_enough_frames_were_tried(
    rule: str, values: dict[str, float | None], verdict: str | None
) -> None:
    assert judge(compile_rule(rule, "shadow"), {"frames": 100.0, "agreement": None, **values}, 100) == verdict


@pytest.mark.parametrize(
    ("rule", "mode", "text"),
    [
        ("agreement >= high", "shadow", r"rule: column 14: .*high"),
        ("agreement >= 0.9", "canary", "no agreement is measured of a canary"),
        ("agreement", "shadow", "a number where true or false is needed"),
        ("__import__('os')", "shadow", "rule: column 1"),
    ],
)
def test_a_wrong_rule_is_refused_with_its_column(rule: str, mode: Mode, text: str) -> None:
    with pytest.raises(BadInputError, match=text):
        compile_rule(rule, mode)
