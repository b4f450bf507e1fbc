"""What is computed of each frame: the root by its cadence, children by track; the rest is answered in the pipeline."""

from __future__ import annotations

from typing import Any

import pytest

from hams_services.pipeline.core import StreamCore
from hams_services.pipeline.flight import Close, Command, Outcome, Send, Shot
from hams_services.pipeline.selection import Selection, selection_of
from hams_shared.group.spec import GroupSpec, parse_group
from support.build import group_spec, output, plan

STEP_S = 0.1
SIZE = (640, 480)


def spec_of(det: dict[str, Any], nodes: dict[str, dict[str, Any]] | None = None, **stream: Any) -> GroupSpec:
    nodes = {"age": {}} if nodes is None else nodes
    one = {"source": "push", **stream}
    spec = group_spec(nodes=("det", *nodes), streams={"cam": one}).model_dump(mode="json", exclude_unset=True)
    spec["nodes"]["det"] |= det
    for name, keys in nodes.items():
        spec["nodes"][name] |= keys
    return parse_group(spec)


class World:
    """A stream, and devices that answer when told to."""

    def __init__(self, spec: GroupSpec, *, lossless: bool = True, window: int = 8) -> None:
        self.core = StreamCore("cam", lossless, window, 10.0, selection=selection_of(spec, spec.streams["cam"]))
        self.spec = spec
        self.sent: list[Send] = []
        self.closed: list[Close] = []
        self.now = 0.0
        self.route(1)

    def route(self, epoch: int, lost: tuple[str, ...] = (), **moved: str) -> None:
        places = {node: moved.get(node, f"h.b.{node}") for node in self.spec.nodes}
        self.take(self.core.route(plan(epoch, places, self.spec), lost, self.now))

    def take(self, commands: list[Command]) -> None:
        self.sent += [one for one in commands if isinstance(one, Send)]
        self.closed += [one for one in commands if isinstance(one, Close)]
        for one in self.closed:
            if one.outcome is Outcome.DELIVERED and self.core.unpublished:
                self.take(self.core.published(self.now))
        self.core.validate()

    def submit(self, count: int = 1) -> None:
        for _ in range(count):
            at = self.core.ledger.submitted * STEP_S
            self.take(self.core.submit(at, self.now, Shot(at, SIZE))[1])

    def asked(self, node: str) -> list[int]:
        return [one.id.frame for one in self.sent if one.node == node]

    def answer(self, frame: int, node: str, items: list[Any] | None = None) -> None:
        send = [one for one in self.sent if one.id.frame == frame and one.node == node][-1]
        if node == "det":
            self.take(self.core.output(output(send.id, node, [[] if items is None else items], [0]), self.now))
            return
        found = [{"value": frame} for _ in send.sources] if items is None else items
        self.take(self.core.output(output(send.id, node, found, [*send.sources][: len(found)]), self.now))

    @property
    def results(self) -> list[tuple[int, list[dict[str, Any]]]]:
        return [(one.frame, one.objects) for one in self.closed if one.outcome is Outcome.DELIVERED]


def thing(x: float, score: float = 0.95, **more: Any) -> dict[str, Any]:
    return {"box": [x, 100.0, x + 60.0, 200.0], "score": score, "label": "person", **more}


def test_without_rules_nothing_is_chosen() -> None:
    spec = group_spec()
    assert selection_of(spec, None) is None


def test_the_root_looks_at_every_third_frame_and_the_others_are_predicted() -> None:
    world = World(spec_of({"track": {}, "cadence": 3}, {}))
    world.submit(7)
    assert world.asked("det") == [0, 3, 6]
    world.answer(0, "det", [thing(100)])
    assert [frame for frame, _ in world.results] == [0, 1, 2]
    world.answer(3, "det", [thing(130)])
    world.answer(6, "det", [thing(160)])
    tracks = [[(one["track"], one.get("predicted", False)) for one in objects] for _, objects in world.results]
    assert tracks == [[(1, False)]] + [[(1, True)]] * 2 + [[(1, False)]] + [[(1, True)]] * 2 + [[(1, False)]]
    assert world.results[5][1][0]["box"][0] == pytest.approx(150, abs=6)  # it went on as before
    assert world.core.idle


def test_frames_are_tracked_in_order_whatever_the_order_of_answers() -> None:
    world = World(spec_of({"track": {}}, {}))
    world.submit(3)
    for frame in (2, 1):
        world.answer(frame, "det", [thing(100 + 10 * frame)])
    assert world.results == []
    world.answer(0, "det", [thing(100)])
    assert [(frame, objects[0]["age_s"]) for frame, objects in world.results] == [(0, 0.0), (1, 0.1), (2, 0.2)]


def test_low_scores_carry_tracks_on_and_begin_none() -> None:
    world = World(spec_of({"track": {}}, {}))
    world.submit(2)
    world.answer(0, "det", [thing(100), thing(400, 0.2, low=True)])
    world.answer(1, "det", [thing(102, 0.2, low=True), thing(400, 0.2, low=True)])
    assert [[one["track"] for one in objects] for _, objects in world.results] == [[1], [1]]
    assert "low" not in world.results[1][1][0]


def test_a_track_is_asked_about_once_and_its_answer_carried_on() -> None:
    world = World(spec_of({"track": {}}, {"age": {"cadence": "track"}}))
    world.submit(3)
    for frame in range(3):
        world.answer(frame, "det", [thing(100)])
    assert world.asked("age") == [0]
    world.answer(0, "age")
    ages = [objects[0].get("age") for _, objects in world.results]
    assert ages == [{"value": 0}, {"value": 0, "from_frame": 0}, {"value": 0, "from_frame": 0}]


def test_a_better_crop_is_asked_about_again() -> None:
    world = World(spec_of({"track": {}}, {"age": {"cadence": "track"}}))
    for frame, size in enumerate((40.0, 44.0, 60.0)):
        world.submit()
        world.answer(frame, "det", [{"box": [100.0, 100.0, 100 + size, 100 + size], "score": 0.95, "label": "x"}])
        if frame != 1:
            world.answer(frame, "age")
    assert world.asked("age") == [0, 2]
    assert [objects[0]["age"]["value"] for _, objects in world.results] == [0, 0, 2]


@pytest.mark.parametrize(("cadence", "asked"), [({"frames": 2}, [0, 2, 4]), ({"seconds": 0.3}, [0, 3])])
def test_a_child_by_frames_and_by_time(cadence: dict[str, Any], asked: list[int]) -> None:
    world = World(spec_of({"track": {}}, {"age": {"cadence": cadence}}))
    for frame in range(5):
        world.submit()
        world.answer(frame, "det", [thing(100)])
        if frame in asked:
            world.answer(frame, "age")
    assert world.asked("age") == asked


def test_a_child_without_cadence_runs_when_its_parent_does() -> None:
    world = World(spec_of({"track": {}, "cadence": 2}, {"age": {}}))
    world.submit(3)
    world.answer(0, "det", [thing(100)])
    world.answer(2, "det", [thing(100), thing(300, 0.3, low=True)])
    assert world.asked("age") == [0, 2]
    world.answer(0, "age")
    world.answer(2, "age")
    assert [objects[0]["age"].get("from_frame") for _, objects in world.results] == [None, 0, None]


def test_predicted_boxes_are_looked_at_where_the_cadence_says_so() -> None:
    world = World(spec_of({"track": {}, "cadence": 2}, {"age": {"cadence": 1}}))
    world.submit(2)
    world.answer(0, "det", [thing(100)])
    assert world.asked("age") == [0, 1]
    assert next(one for one in world.sent if one.node == "age" and one.id.frame == 1).objects[0].label == "person"


def test_a_lost_device_costs_a_child_and_no_track() -> None:
    world = World(spec_of({"track": {"confirm_hits": 2, "confirm_score": 2}}, {"age": {}}))
    world.submit(2)
    for frame in (0, 1):
        world.answer(frame, "det", [thing(100)])
    assert world.asked("age") == [1]  # the first detection is not confirmed
    world.route(2, lost=("h.b.age",))
    assert world.asked("det") == [0, 1]
    assert world.asked("age") == [1, 1]
    assert world.sent[-1].id.attempt == 1
    world.answer(1, "age")
    assert [[(one["track"], one["age"]) for one in objects] for _, objects in world.results] == [
        [],
        [(1, {"value": 1})],
    ]


def test_a_lost_device_of_a_child_takes_the_frames_that_the_root_still_has() -> None:
    world = World(spec_of({"track": {}}, {"age": {}}))
    world.submit(2)
    world.take(world.core.route(None, ("h.b.age",), world.now))
    world.answer(0, "det", [thing(100)])  # of the attempt that is lost
    world.route(2, age="h.c.age")
    assert [(one.id.frame, one.node, one.id.attempt) for one in world.sent] == [
        (frame, "det", attempt) for attempt in (0, 1) for frame in (0, 1)
    ]
    for frame in (0, 1):
        world.answer(frame, "det", [thing(100)])
        assert world.sent[-1].device == "h.c.age"
        world.answer(frame, "age")
    assert [(frame, len(objects)) for frame, objects in world.results] == [(0, 1), (1, 1)]
    assert world.core.resent == 2
    assert world.core.idle


def test_a_live_frame_ends_at_once_when_the_device_of_a_child_is_lost() -> None:
    world = World(spec_of({"track": {}}, {"age": {}}), lossless=False)
    world.submit()
    world.take(world.core.route(None, ("h.b.age",), world.now))
    assert [(one.frame, one.reason) for one in world.closed] == [(0, "device-lost")]


def test_a_lost_device_of_a_child_that_waits_for_a_sibling() -> None:
    world = World(spec_of({}, {"kind": {"when": "score > 0.5"}, "adult": {"when": "kind.value >= 18"}}))
    world.submit()
    world.answer(0, "det", [thing(100)])
    world.route(2, lost=("h.b.adult",), adult="h.c.adult")
    world.answer(0, "kind", [{"value": 30}])
    assert [(one.node, one.device, one.id.attempt) for one in world.sent[-2:]] == [
        ("kind", "h.b.kind", 1),
        ("adult", "h.c.adult", 1),
    ]


def test_no_frame_is_lost_for_the_device_of_a_slow_child() -> None:
    world = World(spec_of({"track": {}}, {"age": {"cadence": "track", "budget": 0.5}}))
    world.submit()
    world.take(world.core.route(None, ("h.b.age",), world.now))
    world.answer(0, "det", [])
    assert [frame for frame, _ in world.results] == [0]


def test_a_frame_that_is_sent_again_is_followed_before_the_next_one() -> None:
    """Its root answers the lost attempt while no plan is in force."""
    world = World(spec_of({"track": {}}, {"age": {}}))
    both = plan(2, {node: f"h.b.{node}" for node in world.spec.nodes}, world.spec)
    halves = {"det": {"h.b.det": 1.0}, "age": {"h.b.age": 0.5, "h.c.age": 0.5}}
    world.take(world.core.route(both.model_copy(update={"shares": halves}), (), world.now))
    world.submit(2)
    lost, kept = (one.route["age"] for one in world.sent)
    assert lost != kept
    world.take(world.core.route(None, (lost,), world.now))
    for frame in (1, 0):
        world.answer(frame, "det", [thing(100)])
    world.route(3, age=kept)
    world.answer(0, "det", [thing(100)])
    for frame in (0, 1):
        world.answer(frame, "age")
    assert [(f, one["track"], one["age_s"]) for f, [one] in world.results] == [(0, 1, 0.0), (1, 1, 0.1)]


def test_a_failed_look_is_made_up_for_at_the_next_frame() -> None:
    world = World(spec_of({"track": {}, "cadence": 4}, {}), lossless=False, window=3)
    world.submit(2)
    send = world.sent[0]
    world.take(world.core.output(output(send.id, "det", [], error="bad-model"), world.now))
    world.submit(2)
    assert world.asked("det") == [0, 2]


def test_live_frames_that_need_no_device_do_not_wait_for_room() -> None:
    world = World(spec_of({"track": {}, "cadence": 3}, {}), lossless=False, window=1)
    world.submit(3)
    world.answer(0, "det", [thing(100)])
    assert [frame for frame, _ in world.results] == [0, 1, 2]
    assert world.core.ledger.dropped.total() == 0


def test_what_a_node_gave_no_answer_about_is_asked_again_later() -> None:
    world = World(spec_of({"track": {}}, {"age": {"cadence": "track"}}))
    for frame in range(13):
        world.submit()
        world.answer(frame, "det", [thing(100)])
        if frame in world.asked("age"):
            world.answer(frame, "age", [])
    assert world.asked("age") == [0, 10]


def test_answers_of_ended_tracks_are_forgotten() -> None:
    world = World(spec_of({"track": {"max_lost_s": 0.2}}, {"age": {"cadence": "track"}}))
    for frame in range(6):
        world.submit()
        world.answer(frame, "det", [thing(100)] if frame < 2 else [])
        if frame in world.asked("age"):
            world.answer(frame, "age")
    assert isinstance(world.core.selection, Selection)
    assert world.core.selection.known == {}


def test_a_condition_chooses_objects_and_the_others_say_why() -> None:
    world = World(spec_of({}, {"age": {"when": "score > 0.6 and box.height > 80"}}))
    world.submit()
    world.answer(0, "det", [thing(100), thing(300, 0.5), thing(500)])
    assert world.sent[-1].sources == [0, 2]
    world.answer(0, "age")
    [(_, objects)] = world.results
    assert [one.get("age") for one in objects] == [{"value": 0}, None, {"value": 0}]
    assert [one.get("skipped") for one in objects] == [None, {"age": "when"}, None]


def test_a_condition_over_a_sibling_waits_for_its_answer_and_two_make_a_switch() -> None:
    nodes = {
        "kind": {},
        "adult": {"when": "kind.value >= 18"},
        "child": {"when": "not kind.value >= 18"},
    }
    world = World(spec_of({}, nodes))
    world.submit()
    world.answer(0, "det", [thing(100), thing(300)])
    assert world.asked("adult") == []
    sent = world.sent[-1] if world.sent[-1].node == "kind" else world.sent[0]
    world.take(world.core.output(output(sent.id, "kind", [{"value": 30}, {"value": 3}], [0, 1]), world.now))
    picked = {one.node: one.sources for one in world.sent if one.node in ("adult", "child")}
    assert picked == {"adult": [0], "child": [1]}
    world.answer(0, "adult")
    world.answer(0, "child")
    [(_, objects)] = world.results
    assert [set(one) & {"adult", "child"} for one in objects] == [{"adult"}, {"child"}]


def test_a_condition_of_a_grandchild_sees_the_objects_around() -> None:
    nodes = {"plate": {}, "text": {"parent": "plate", "when": "det.label == 'car' and score > 0.5"}}
    world = World(spec_of({}, nodes))
    world.submit()
    world.answer(0, "det", [thing(100) | {"label": "car"}, thing(300) | {"label": "bus"}])
    send = world.sent[0]
    plates = [[{"box": [110, 150, 130, 160], "score": 0.9, "label": "plate"}]] * 2
    world.take(world.core.output(output(send.id, "plate", [list(map(dict, one)) for one in plates], [0, 1]), world.now))
    assert [(one.node, one.sources) for one in world.sent[1:]] == [("text", [0])]
    world.answer(0, "text")
    [(_, objects)] = world.results
    assert objects[0]["plate"]["objects"][0]["text"] == {"value": 0}
    assert objects[1]["plate"]["objects"][0]["skipped"] == {"text": "when"}


@pytest.mark.parametrize(
    ("when", "runs"),
    [
        ("plate.score > 0.5", True),
        ("plate.score > 0.95", False),
        ("plate.label == 'plate'", True),
        ("plate.box.width > 10", True),
        ("det.label == 'car'", True),
    ],
)
def test_a_condition_sees_the_object_around_of_each_detector_above(when: str, runs: bool) -> None:
    nodes = {"plate": {}, "text": {"parent": "plate"}, "kind": {"parent": "text", "when": when}}
    world = World(spec_of({}, nodes))
    world.submit()
    world.answer(0, "det", [thing(100) | {"label": "car"}])
    plate = {"box": [110, 150, 130, 160], "score": 0.9, "label": "plate"}
    found = {"plate": [plate], "text": [{"box": [112, 152, 116, 158], "score": 0.8, "label": "char"}]}
    for node, objects in found.items():
        world.take(world.core.output(output(world.sent[0].id, node, [[dict(one) for one in objects]], [0]), world.now))
    assert [one.node for one in world.sent[1:]] == ["kind"] * runs


def test_a_condition_sees_what_a_describing_parent_found_and_described() -> None:
    nodes = {"pose": {}, "hand": {"parent": "pose", "when": "pose.yaw > 10 and pose.label == 'hand'"}}
    world = World(spec_of({}, nodes))
    world.submit()
    world.answer(0, "det", [thing(100)])
    parts = [{"box": [110, 150, 130, 160], "score": 0.9, "label": label} for label in ("hand", "foot")]
    item = {"yaw": 30.0, "objects": parts}
    world.take(world.core.output(output(world.sent[0].id, "pose", [item], [0]), world.now))
    assert [(one.node, one.sources) for one in world.sent[1:]] == [("hand", [0])]


@pytest.mark.parametrize("det", [{"track": {}}, {}])
@pytest.mark.parametrize(
    "wrong",
    [{"label": 3}, {"score": None}, {"score": "0.9"}, {"box": [0, 0, 1, 1, 2]}, {"box": [0, 0, "a", 1]}, {"box": 7}],
)
def test_objects_of_a_wrong_type_fail_their_frame_by_name(det: dict[str, Any], wrong: dict[str, Any]) -> None:
    world = World(spec_of(det, {"age": {"when": "score > 0.5"}}, mask=[[[0.9, 0], [1, 0], [1, 1]]]))
    world.submit(2)
    world.answer(0, "det", [thing(100) | wrong])
    world.answer(1, "det", [thing(100)])
    world.answer(1, "age")
    assert [(one.frame, one.outcome, one.reason) for one in world.closed] == [
        (0, Outcome.FAILED, "bad-message"),
        (1, Outcome.DELIVERED, ""),
    ]
    assert "node det" in world.closed[0].detail


def test_what_a_condition_cannot_read_fails_its_frame_and_no_other() -> None:
    """Nothing here looks at objects before: the root has neither tracks nor regions."""
    world = World(spec_of({}, {"age": {"when": "score > 0.5"}}))
    world.submit(2)
    world.answer(0, "det", [7])
    assert [(one.frame, one.outcome, one.reason) for one in world.closed] == [(0, Outcome.FAILED, "internal")]
    world.take(world.core.tick(1.0))
    world.answer(1, "det", [])
    assert [frame for frame, _ in world.results] == [1]


def test_nothing_is_asked_where_no_object_is_one_for_the_node() -> None:
    world = World(spec_of({}, {"age": {"when": "label == 'cat'"}}))
    world.submit()
    world.answer(0, "det", [thing(100)])
    assert len(world.results) == 1
    assert world.asked("age") == []
    assert list(world.closed[0].join.nodes()) == ["det"]  # type: ignore[union-attr]


def test_tracks_rest_while_the_gate_leaves_frames_out() -> None:
    world = World(spec_of({"track": {"max_lost_s": 0.5}, "cadence": 3}, {}))
    world.submit()
    world.answer(0, "det", [thing(100)])
    for _ in range(50):  # 5 s in which nothing moves
        world.core.leave_out(world.core.ledger.submitted * STEP_S)
    world.submit()
    assert world.asked("det") == [0, 51]
    world.answer(51, "det", [thing(102)])
    assert [(one["track"], one["age_s"]) for one in world.results[-1][1]] == [(1, 5.1)]
    assert world.core.ledger.gated == 50


def test_objects_say_in_which_zones_they_are_and_masks_leave_them_out() -> None:
    half = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]
    world = World(
        spec_of({}, {"age": {"when": "zone == 'left'"}}, zones={"left": half}, mask=[[[0.9, 0], [1, 0], [1, 1]]])
    )
    world.submit()
    world.answer(0, "det", [thing(100), thing(400), thing(590)])
    world.answer(0, "age")
    [(_, objects)] = world.results
    assert [(one["zones"], "age" in one) for one in objects] == [(["left"], True), ([], False)]


def test_what_tiles_find_is_put_together() -> None:
    world = World(spec_of({}, {}, tiles={"grid": [2, 1], "overlap": 0.2}))
    world.submit()
    send = world.sent[0]
    found = [[thing(100), thing(285)], [thing(286, 0.9), thing(500)]]
    world.take(world.core.output(output(send.id, "det", found, [0, 0]), world.now))
    [(_, objects)] = world.results
    assert sorted(one["box"][0] for one in objects) == [100, 285, 500]


def test_a_root_that_was_given_other_parts_fails_the_frame() -> None:
    world = World(spec_of({}, {}, tiles={"grid": [2, 1]}))
    world.submit()
    world.answer(0, "det", [thing(100)])
    assert [(one.outcome, one.reason) for one in world.closed] == [(Outcome.FAILED, "bad-message")]


@pytest.mark.parametrize("cadence", ["track", {"seconds": 10}, {"frames": 50}])
def test_what_was_asked_about_a_frame_that_is_lost_is_asked_again(cadence: Any) -> None:
    world = World(spec_of({"track": {}}, {"age": {"cadence": cadence}}), lossless=False)
    world.submit()
    world.answer(0, "det", [thing(100)])
    world.route(2, lost=("h.b.age",))
    assert [(one.frame, one.reason) for one in world.closed] == [(0, "device-lost")]
    world.submit()
    world.answer(1, "det", [thing(100)])
    assert world.asked("age") == [0, 1]


@pytest.mark.parametrize("lossless", [True, False])
def test_a_node_that_the_roots_agent_feeds_has_a_deadline_too(lossless: bool) -> None:
    """A zone gives the group rules, but the child's objects are all that the root found."""
    world = World(spec_of({}, zones={"yard": [[0, 0], [1, 0], [1, 1]]}), lossless=lossless)
    world.submit()
    world.answer(0, "det")
    assert world.closed == []  # the child's answer is lost
    for world.now in (10.1, 15.0):
        world.take(world.core.tick(world.now))
    if lossless:
        assert world.asked("det") == [0, 0]
    else:
        assert [(one.outcome, one.reason) for one in world.closed] == [(Outcome.DROPPED, "deadline")]


def test_what_another_attempt_finds_is_picked_anew() -> None:
    """The root is asked again, since its device feeds `age`; it may be another replica, which finds other objects."""
    world = World(spec_of({}, {"age": {}, "who": {"when": "score > 0.5"}}))
    world.submit()
    world.answer(0, "det", [thing(100), thing(200, 0.4), thing(300)])
    asked = world.sent[-1]
    assert (asked.node, asked.sources) == ("who", [0, 2])
    world.take(world.core.output(output(asked.id, "who", [], error="refused"), world.now))
    world.now += 1.0
    world.take(world.core.tick(world.now))
    world.answer(0, "det", [thing(200, 0.4), thing(300)])
    again = world.sent[-1]
    assert (again.node, again.id.attempt, again.sources) == ("who", 1, [1])
    assert [one.box[0] for one in again.objects] == [300.0]
    world.answer(0, "who")
    world.take(world.core.output(output(again.id, "age", [{"value": 1}, {"value": 2}], [0, 1]), world.now))
    [(_, objects)] = world.results
    assert [one.get("who") for one in objects] == [None, {"value": 0}]


def test_what_a_child_finds_in_another_attempt_is_picked_anew_and_what_it_was_asked_stays() -> None:
    nodes = {"plate": {"cadence": "track"}, "text": {"parent": "plate", "when": "score > 0.5"}}
    world = World(spec_of({"track": {}}, nodes))

    def plates(*scores: float) -> list[Any]:
        return [[{"box": [110, 150, 130, 160], "score": score, "label": "plate"} for score in scores]]

    world.submit()
    world.answer(0, "det", [thing(100)])
    world.answer(0, "plate", plates(0.9, 0.3, 0.8))
    assert world.sent[-1].sources == [0, 2]
    world.route(2, lost=("h.b.text",))
    assert world.asked("det") == [0]
    assert world.asked("plate") == [0, 0]  # as before, though its track was asked about
    world.answer(0, "plate", plates(0.4, 0.7))
    assert (world.sent[-1].node, world.sent[-1].sources, len(world.sent[-1].objects)) == ("text", [1], 1)
    world.answer(0, "text")
    [(_, [one])] = world.results
    assert [part.get("text") for part in one["plate"]["objects"]] == [None, {"value": 0}]
