"""Two roles on every subject of a real broker: a sample of `python -m benchmarks messages`."""

from __future__ import annotations

import pytest
from benchmarks.messages import broker
from benchmarks.messages.samples import requests

from hams_shared.wire.codec import pack

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(900)]


def test_two_roles_on_every_subject_of_a_real_broker() -> None:
    valid = {subject: [pack(one) for one in all_] for subject, all_ in requests().items()}
    outcomes = broker.run(1, 1, valid, ["app", "agent-box"])
    assert [fault for one in outcomes for fault in one.faults] == []
    assert min(len(one.sent) for one in outcomes) > 140
