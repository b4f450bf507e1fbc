"""Which of several schedulers leads: a lease in one KV key, held by renewing it. Pure.

The holder writes its record again every `RENEW_S` by compare-and-set on the key's revision. Clocks of hosts are never
compared: a follower takes the lease only when *it* has seen no new revision for `LEASE_S` on its own monotonic clock,
and by compare-and-set on the last revision it saw. The holder stops leading by itself `STEP_DOWN_S` after it *sent* the
last renewal that was acknowledged. Since a follower sees a revision no earlier than its holder sent it, and
`STEP_DOWN_S` < `LEASE_S`, at most one leads at any time, whatever is delayed, as long as clocks run at the same rate
within the ratio of the two.

`Lease.led` is the one answer to "does this scheduler decide?": the term in which it does. The shell reports what it
reads and writes; :meth:`Lease.change` returns what has to begin or end. Between taking the lease and deciding, the
shell fences off earlier leaders.

A process that is stopped between asking :meth:`Lease.leads` and writing (SIGSTOP) is beyond any lease; its writes are
fenced by the revisions of what it writes (:mod:`hams_scheduler.leader.plan_store`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RENEW_S = 0.5
"""Pause between two renewals, and between two looks of a follower, s."""
STEP_DOWN_S = 2.0
"""A leader leads for so long after the last renewal that was acknowledged, counted from when it was sent, s."""
LEASE_S = 2.5
"""A follower that has seen no new revision for so long takes the lease, s."""


@dataclass(frozen=True)
class Held:
    """The content of the key."""

    holder: str
    """Empty: given back."""
    term: int
    revision: int


@dataclass(frozen=True)
class Claim:
    """Write the key, only if its newest revision is `revision` (0: it never was), to lead in `term`."""

    term: int
    revision: int


@dataclass
class Lease:
    """One scheduler's view of the lease. `now` is its own monotonic time, s, throughout."""

    me: str
    term: int = 0
    """The newest term this scheduler knows of; its own while it leads."""
    led: int = 0
    """The term in which this scheduler decides; 0: it follows."""
    _mine: Claim | None = None
    """The newest revision written by this scheduler, while it leads."""
    _renewed: float = float("-inf")
    """When the newest acknowledged renewal was sent."""
    _seen: Held | None = None
    _seen_at: float | None = None
    """When the newest revision was first seen; None: no holder was ever seen."""

    @property
    def holds(self) -> bool:
        """Whether this scheduler took the lease and has not given it up; see :meth:`leads`."""
        return self._mine is not None

    @property
    def others(self) -> bool:
        """Whether another scheduler held the lease when this one looked last."""
        return not self.holds and self._seen is not None and self._seen.holder not in ("", self.me)

    def leads(self, now: float) -> bool:
        """Whether this scheduler may decide now."""
        return self.holds and now - self._renewed < STEP_DOWN_S

    def writes_in(self, now: float) -> int:
        """The term in which this scheduler may write now; 0: it follows, or its lease has run out."""
        return self.led if self.leads(now) else 0

    def change(self, now: float) -> Literal["begin", "end"] | None:
        """What has changed: ``"end"``, and `led` is 0 now; or ``"begin"``: the shell calls :meth:`begin` once ready."""
        if self.holds and not self.leads(now):
            self._mine = None
        leads = self.leads(now)
        if self.led and (not leads or self.term != self.led):
            self.led = 0
            return "end"
        return "begin" if leads and not self.led else None

    def begin(self) -> None:
        """Decide from now on, in the term of the lease: earlier leaders are fenced off."""
        self.led = self.term

    def renewal(self, now: float) -> Claim | None:
        """What a leader writes now; None: look first."""
        return self._mine if self.leads(now) and self._mine != self._unsure() else None

    def _unsure(self) -> Claim:
        """The claim that stands for "another may have written": it makes the next turn read the key."""
        return Claim(self.term, -1)

    def saw(self, found: Held | None, now: float) -> Claim | None:
        """Take the content of the key; return the claim to make, if any."""
        if found is None and self._mine is not None and self.leads(now):
            return Claim(self.term, 0)  # the store was lost, and nobody else has claimed it
        if found is not None:
            self.term = max(self.term, found.term)
            if found.holder == self.me and self._mine is not None and found.term == self._mine.term:
                # An answer was lost on its way, or this process had no time to renew. Nobody else has led since, for
                # another that takes the lease raises the term. So this one goes on, however late it is.
                self._mine = Claim(found.term, found.revision)
                return self._mine
        self._mine = None
        if self._seen_at is None or (found is not None and found != self._seen):
            self._seen_at = now
            first = self._seen is None and found is None
            self._seen = found
            if first:
                return Claim(self.term + 1, 0)
        if found is not None and found.holder in ("", self.me):
            return Claim(self.term + 1, found.revision)
        if now - self._seen_at >= LEASE_S:
            return Claim(self.term + 1, found.revision if found else 0)
        return None

    def wrote(self, claim: Claim, revision: int, sent: float) -> None:
        """`claim` was acknowledged; it was sent at `sent`."""
        self.term = claim.term
        self._mine = Claim(claim.term, revision)
        self._renewed = sent

    def refused(self) -> None:
        """A claim was refused: another wrote the key, or it was lost. The next turn reads it."""
        if self._mine is not None:
            self._mine = self._unsure()

    def give_back(self) -> Claim | None:
        """Stop leading; what to write, with an empty holder, so that another may lead at once."""
        claim, self._mine = self._mine, None
        return claim

    def heard(self, term: int) -> None:
        """Take the term of a record: this scheduler's own will be higher."""
        if not self.holds:
            self.term = max(self.term, term)

    def validate(self) -> None:
        """Raise AssertionError if this scheduler decides in a term that it does not know."""
        assert 0 <= self.led <= self.term, f"{self.me} decides in term {self.led}, and knows {self.term}"
