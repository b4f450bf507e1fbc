"""How many results and outputs are printed, and which group, stream and node can be read."""

from __future__ import annotations

import pytest

from hams_services.ctl.actions.known import refuse_unknown
from hams_services.ctl.actions.results import how_many
from hams_shared.errors import NotFoundError
from hams_shared.wire.messages.candidate import Candidate
from hams_shared.wire.messages.scheduler import GroupView
from support.build import group_spec, plan

STREAM, NODE = "cam", "det"


def view(*, candidate: bool = False, streams: bool = True) -> GroupView:
    spec = group_spec(streams={STREAM: {"source": "a.mp4"}} if streams else {})
    active = plan(1, {NODE: "box.ov.cpu"}, spec)
    trial = Candidate(of="face", mode="shadow", share=0.1) if candidate else None
    group = active.group.model_copy(update={"candidate": trial})
    return GroupView(name="face", state="serving", active=active.model_copy(update={"group": group}))


@pytest.mark.parametrize(
    ("follow", "count", "most"), [(False, None, 1), (False, 5, 5), (True, None, None), (True, 100, 100)]
)
def test_a_count_ends_also_what_follows(follow: bool, count: int | None, most: int | None) -> None:
    assert how_many(follow, count) == most


def test_an_unknown_stream_or_node_is_refused() -> None:
    refuse_unknown(view(), STREAM, NODE)
    refuse_unknown(view())
    with pytest.raises(NotFoundError, match="group face has no stream carphon.*its streams: cam"):
        refuse_unknown(view(), "carphon")
    with pytest.raises(NotFoundError, match="no stream x.*its streams: none"):
        refuse_unknown(view(streams=False), "x")
    with pytest.raises(NotFoundError, match="group face has no node x"):
        refuse_unknown(view(), node="x")


def test_what_is_not_known_yet_is_not_refused() -> None:
    refuse_unknown(GroupView(name="face", state="planning"), "any", "any")
    refuse_unknown(view(candidate=True, streams=False), STREAM)
