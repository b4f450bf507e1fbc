"""What a question about plans supposes: fewer devices, and twins of others."""

from __future__ import annotations

import pytest

from hams_scheduler.supposed import supposed
from hams_scheduler.variant_choice import PlanningSnapshot
from hams_shared.errors import BadInputError
from hams_shared.wire.messages.scheduler import PlanRequest, SupposedDevice
from support.build import device, group_record

A, B = device("box.openvino.cpu0"), device("box.onnxruntime.cuda0", kind="gpu")


def snapshot() -> PlanningSnapshot:
    return PlanningSnapshot(
        groups=(group_record(),),
        devices=(A, B),
        profiles={},
        unanswered={},
        refused={("face", B.device): "no"},
        strategy="hfs",
        kappa={(A.device, 2): 1.1, (B.device, 2): 1.5},
        overhead={B.device: 0.5},
        messages={},
        cpu_factor={(B.device, 2): 2.0},
        banned={(B.device, "digest"): "why"},
    )


def asked(without: tuple[str, ...] = (), *added: SupposedDevice) -> PlanRequest:
    return PlanRequest(group=group_record(), strategies=("hfs",), without=without, added=added)


def test_nothing_supposed_changes_nothing() -> None:
    before = snapshot()
    assert supposed(before, asked()) is before


def test_a_device_less() -> None:
    assert supposed(snapshot(), asked((A.device,))).devices == (B,)


def test_a_twin_has_all_that_is_known_of_the_device_it_is_like() -> None:
    found = supposed(snapshot(), asked((), SupposedDevice(like=B.device)))
    twin = "box.onnxruntime.cuda0-2"
    assert [d.device for d in found.devices] == [A.device, B.device, twin]
    assert found.devices[-1].fingerprint == B.fingerprint
    assert found.devices[-1].host == "box"
    assert found.kappa[(twin, 2)] == 1.5
    assert found.overhead[twin] == 0.5
    assert found.cpu_factor[(twin, 2)] == 2.0
    assert ("face", twin) in found.refused
    assert (twin, "digest") in found.banned
    assert twin not in found.messages


def test_a_twin_on_another_host_and_in_place_of_the_first() -> None:
    found = supposed(snapshot(), asked((A.device,), SupposedDevice(like=A.device, host="Box 2")))
    assert [(d.device, d.host) for d in found.devices] == [(B.device, "box"), ("box-2.openvino.cpu0", "box-2")]


def test_several_twins_have_names_of_their_own() -> None:
    found = supposed(snapshot(), asked((), *[SupposedDevice(like=A.device)] * 3))
    assert len({d.device for d in found.devices}) == 5


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (asked(("box.x.y",)), "no device box.x.y"),
        (asked((), SupposedDevice(like="box.x.y")), "no device box.x.y"),
        (asked((A.device, B.device)), "none left"),
    ],
)
def test_what_cannot_be_supposed_is_named(request_: PlanRequest, text: str) -> None:
    with pytest.raises(BadInputError, match=text):
        supposed(snapshot(), request_)
