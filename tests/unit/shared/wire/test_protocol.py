"""Which versions work together, and that a key of group files travels only where it is used."""

from __future__ import annotations

from pathlib import Path

import pytest

from hams_shared.errors import MessageError
from hams_shared.group.spec import parse_group
from hams_shared.wire import codec
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.plan import Plan, PlanRecord
from hams_shared.wire.protocol import HISTORY, SPOKEN, common, misfit
from support.build import group_record, plan
from support.up import ROOT

NEWEST = SPOKEN[1]


@pytest.mark.parametrize(
    ("one", "other", "spoken"),
    [((0, 0), (0, 1), 0), ((0, 1), (0, 1), 1), ((1, 3), (2, 5), 3), ((0, 1), (2, 3), None), ((4, 4), (4, 9), 4)],
)
def test_the_newest_that_both_speak_is_spoken(one: tuple[int, int], other: tuple[int, int], spoken: int | None) -> None:
    assert common(one, other) == common(other, one) == spoken


def test_a_part_that_cannot_work_is_told_what_to_upgrade() -> None:
    assert misfit("agent a", "0.1.0", SPOKEN) == misfit("agent a", "0.1.0", (0, 0)) == ""
    newer = misfit("agent box.sim.a", "0.9.0", (NEWEST + 1, NEWEST + 2))
    assert newer == (
        f"agent box.sim.a 0.9.0 speaks protocol {NEWEST + 1} to {NEWEST + 2}, this {SPOKEN[0]} to {SPOKEN[1]}: "
        "upgrade the rest of the system first"
    )
    assert sorted(HISTORY) == list(range(NEWEST + 1))


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_records_leave_out_defaults_and_are_read_as_they_were(path: Path) -> None:
    from hams_services.models.groups import load_groups

    for spec in load_groups(path):
        record = group_record(spec)
        assert codec.decode(GroupRecord, codec.encode(record)) == record
        plan_ = PlanRecord(group=spec.name, active=Plan(epoch=1, group=record, shares={}, strategy="mfs", fps=1.0))
        assert codec.decode(PlanRecord, codec.encode(plan_)) == plan_


def test_a_key_travels_only_where_it_is_used() -> None:
    sent = codec.unpack(codec.encode(plan(1, {"det": "a.b.c", "age": "a.b.c"})))["group"]["spec"]
    assert set(sent["nodes"]["det"]) <= {"model", "task", "input"}
    newer = {**sent, "nodes": {**sent["nodes"], "det": {**sent["nodes"]["det"], "of_later_versions": 1}}}
    record = codec.unpack(codec.encode(group_record()))
    with pytest.raises(MessageError, match=r"spec\.nodes\.det\.of_later_versions: Extra inputs"):
        codec.decode(GroupRecord, codec.pack({**record, "spec": newer}))
    assert parse_group(sent) == group_record().spec
