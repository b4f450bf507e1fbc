"""Nobody's messages end a part, or do more than the role may: a sample of `python -m benchmarks messages`."""

from __future__ import annotations

import pytest
from benchmarks.messages import decoders, targets, world
from benchmarks.messages.samples import Samples, requests

from hams_services.security.roles import Role
from hams_shared.wire.codec import pack

VALID: Samples = {subject: [pack(one) for one in all_] for subject, all_ in requests().items()}
USERS = ("scheduler", "pipeline", "optimizer", "app", "agent-box")
ROLES = [role for role in targets.all_roles() if role.user in USERS]


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.user)
def test_a_role_that_misbehaves(role: Role) -> None:
    outcome, _ = world.run(role, 400, seed=1)
    assert not outcome.faults, "\n".join(outcome.faults)
    assert outcome.sent.total() == 400


def test_what_decodes_messages_refuses_them_by_name() -> None:
    outcome = decoders.run(10_000, 1, VALID)
    assert not outcome.faults, "\n".join(outcome.faults)


def test_every_subject_has_a_role_that_may_publish_on_it() -> None:
    nobody = [s for s in targets.live() if not any(targets.may(r, s) for r in targets.all_roles() if r.user != "admin")]
    assert set(nobody) == {
        *("hams.v1.pipeline.still", "hams.v1.pipeline.gallery.grey", "$KV.hams-uploads.grey.s0"),
        *("hams.v1.audit.deploy.admin", "hams.v1.audit.credentials.admin"),
    }  # the admin's alone
