"""Candidates in the store: tried on frames of a group, then promoted or dropped."""

from __future__ import annotations

import time
from dataclasses import dataclass

from hams_shared.bus.control import Control
from hams_shared.bus.deployments import Deployments, conflict
from hams_shared.errors import BadInputError, NotFoundError
from hams_shared.group.candidates import (
    Mode,
    canary_fits,
    candidate_name,
    compile_rule,
    is_candidate,
    promoted_spec,
    tried_spec,
)
from hams_shared.wire.messages.candidate import Candidate
from hams_shared.wire.messages.group import GroupRecord


@dataclass(frozen=True)
class Trial:
    """How a group file is tried."""

    mode: Mode
    share: float
    """Of the frames of each stream, above 0, at most 1."""
    rule: str = ""
    after: int = 500
    """Frames that are tried before the rule counts."""
    promote: bool = False
    """Whether it is promoted once the rule holds."""

    def check(self) -> None:
        """Raise BadInputError when the rule is wrong, or missing for `promote`."""
        if self.rule:
            compile_rule(self.rule, self.mode)
        elif self.promote:
            raise BadInputError("--promote auto needs a rule", 'for example --rule "agreement >= 0.95 and failed == 0"')


def as_candidate(record: GroupRecord, serving: GroupRecord, trial: Trial) -> GroupRecord:
    """The record of a group file as that of a candidate for `serving`.

    Raises:
        BadInputError: the rule is wrong, or missing for `promote`; a canary does not go with what serves.
    """
    trial.check()
    spec = record.spec
    tried = tried_spec(spec, serving.spec, trial.mode, trial.share)
    if trial.mode == "canary" and (why := why_no_canary(record.model_copy(update={"spec": tried}), serving)):
        raise BadInputError(f"group {serving.spec.name} cannot have this canary: {why}", "use --shadow")
    candidate = Candidate(
        of=serving.spec.name,
        mode=trial.mode,
        share=trial.share,
        rule=trial.rule,
        after=trial.after,
        promote="auto" if trial.promote else "no",
        strategy=spec.strategy,
        priority=spec.priority,
        target_fps=spec.target_fps,
        turns=spec.share,
    )
    return record.model_copy(update={"spec": tried, "candidate": candidate})


def why_no_canary(tried: GroupRecord, serving: GroupRecord) -> str:
    """Why frames of `serving` cannot be served by the candidate one by one; empty: they can.

    A gallery compares vectors of one network, and learns from them: those of another would be strangers in it.
    """
    if why := canary_fits(tried.spec, serving.spec):
        return why
    for name, node in serving.spec.nodes.items():
        other = tried.models.get(name, serving.models[name])
        if node.task.params.get("gallery") is not None and other.digest != serving.models[name].digest:
            return f"node {name} has a gallery, and another network than what serves"
    return ""


def promoted(candidate: GroupRecord, serving: GroupRecord, now: float) -> GroupRecord:
    """The candidate's record as that of the group that serves, deployed `now` (Unix time, s); its streams stay."""
    of = candidate.candidate
    assert of is not None
    own = {"strategy": of.strategy, "priority": of.priority, "target_fps": of.target_fps, "share": of.turns}
    spec = promoted_spec(candidate.spec, serving.spec, own)
    return serving.model_copy(update={"spec": spec, "models": candidate.models, "deployed_at": now})


async def serving_record(control: Control, group: str) -> GroupRecord:
    """The record of a group that may get a candidate. Raises NotFoundError and BadInputError."""
    if is_candidate(group):
        raise BadInputError(f"{group} is a candidate itself", "name the group that it is for")
    found = (await control.running(group)).record
    if found is None:
        raise NotFoundError(
            f"group {group} is not deployed, so nothing serves that a candidate could be compared with",
            "deploy it first, without --shadow and --canary",
        )
    return found


async def candidate_record(control: Control, group: str) -> GroupRecord:
    """The candidate for `group`. Raises NotFoundError."""
    found = (await control.running(candidate_name(group))).record
    if found is None:
        raise NotFoundError(f"group {group} has no candidate", "see `hams-ctl candidate status`")
    return found


async def promote(control: Control, group: str) -> GroupRecord:
    """Let the candidate for `group` serve in its place; return the new record.

    Raises:
        NotFoundError: there is no candidate, or nothing serves.
        ConflictError: someone else changes the group just now.
        GroupSpecError: the candidate does not go with the streams of the group.
    """
    itself = await control.running(candidate_name(group))
    candidate = itself.record or await candidate_record(control, group)
    serving, base = await control.known_running(group)
    record = await control.deploy(promoted(candidate, serving, time.time()), base)
    await control.deployments.remove(itself, time.time())
    return record


async def drop(control: Control, group: str) -> None:
    """Remove the candidate for `group`; what serves goes on. Raises NotFoundError and ConflictError."""
    await control.undeploy((await candidate_record(control, group)).spec.name)


async def end_by_rule(
    deployments: Deployments, candidate: GroupRecord, serving: GroupRecord | None, *, keep: bool
) -> None:
    """Promote the candidate, or with `keep` false drop it, as its rule decided, if it is still the one deployed.

    It takes the place of `serving` only, which it was compared with. This is no change of a person: what the audit
    holds is who deployed it, with the rule. Raises as :func:`promote`.
    """
    assert candidate.candidate is not None
    of, now = candidate.candidate.of, time.time()
    itself = await deployments.running(candidate.spec.name)
    if itself.record != candidate:
        raise NotFoundError(f"group {of} has another candidate by now, or none")
    if keep:
        base = await deployments.running(of)
        if base.record is None:
            raise NotFoundError(f"group {of} is not deployed")
        if base.record != serving:
            raise conflict(of, base)
        await deployments.write(promoted(candidate, base.record, now), base, f"the rule of {candidate.by}", now)
    await deployments.remove(itself, now)
