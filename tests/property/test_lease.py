"""The lease and the fence behind it, under delays, lost answers, skewed clocks and processes that are paused at will.

The model has one store with revisions, as JetStream KV has. Every read and write is in two halves, a request and its
answer, and any amount of time and of others' doings may lie between them, or the answer may be lost.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hams_scheduler.leader.lease import LEASE_S, RENEW_S, STEP_DOWN_S, Claim, Held, Lease
from support.examples import examples

NODES = 3
WHO = st.integers(0, NODES - 1)


@dataclass
class Node:
    lease: Lease
    skew: float
    """What its clock is ahead of the model's."""
    found: Held | None = None
    reading: bool = False
    sent: tuple[Claim, float] | None = None
    acknowledged: int | None = None
    """Revision of the write under way, once the store took it; -1: refused."""
    plan: tuple[int, int] = (0, 0)
    """Revision and epoch of the plan as this node knows it."""
    paused: tuple[int, int, int] | None = None
    """A plan write decided while it led: term, revision expected, epoch. It may leave much later."""
    fenced: int = 0
    """The term in which it has fenced the plan."""


@dataclass
class Store:
    revision: int = 0
    lease: Held | None = None
    plan_revision: int = 0
    plans: list[tuple[int, int]] = field(default_factory=list)
    """(term, epoch) of every plan ever written, in order."""
    fence: int = 0
    """The highest term that has fenced."""


class Schedulers(RuleBasedStateMachine):
    @initialize(skews=st.lists(st.floats(0, 1e6), min_size=NODES, max_size=NODES))
    def start(self, skews: list[float]) -> None:
        self.now = 0.0
        self.store = Store()
        self.nodes = [Node(Lease(f"s{i}"), skew) for i, skew in enumerate(skews)]

    def clock(self, node: Node) -> float:
        return self.now + node.skew

    @rule(seconds=st.sampled_from([0.05, RENEW_S, STEP_DOWN_S - 0.01, LEASE_S, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(who=WHO)
    def look(self, who: int) -> None:
        node = self.nodes[who]
        node.reading, node.found = True, self.store.lease

    @rule(who=WHO)
    def claim(self, who: int) -> None:
        """Decide upon what was read (maybe long ago), or renew; the request leaves."""
        node, now = self.nodes[who], self.clock(self.nodes[who])
        if node.sent is not None:
            return
        claim = node.lease.renewal(now)
        if claim is None and node.reading:
            claim, node.reading = node.lease.saw(node.found, now), False
        if claim is not None:
            node.sent, node.acknowledged = (claim, now), None

    @rule(who=WHO)
    def arrive(self, who: int) -> None:
        """The store takes or refuses the write under way."""
        node = self.nodes[who]
        if node.sent is None or node.acknowledged is not None:
            return
        claim, _ = node.sent
        newest = self.store.lease.revision if self.store.lease else 0
        if claim.revision != newest:
            node.acknowledged = -1
            return
        self.store.revision += 1
        self.store.lease = Held(node.lease.me, claim.term, self.store.revision)
        node.acknowledged = self.store.revision

    @rule(who=WHO, lost=st.booleans())
    def answer(self, who: int, lost: bool) -> None:
        node = self.nodes[who]
        if node.sent is None or node.acknowledged is None:
            return
        (claim, sent), node.sent = node.sent, None
        if lost:
            return
        if node.acknowledged == -1:
            node.lease.refused()
        else:
            node.lease.wrote(claim, node.acknowledged, sent)

    @rule(who=WHO)
    def turn(self, who: int) -> None:
        """All of it at once, as when nothing is slow."""
        self.look(who)
        self.claim(who)
        self.arrive(who)
        self.answer(who, lost=False)
        self.fence(who)

    @rule(who=WHO)
    def fence(self, who: int) -> None:
        """A new leader reads the plan and writes it again in its own term: one atomic compare-and-set."""
        node = self.nodes[who]
        if node.lease.leads(self.clock(node)) and node.fenced != node.lease.term:
            epoch = self.store.plans[-1][1] if self.store.plans else 0
            self.store.plan_revision += 1
            self.store.fence = max(self.store.fence, node.lease.term)
            node.plan, node.fenced = (self.store.plan_revision, epoch), node.lease.term

    @rule(who=WHO)
    def decide(self, who: int) -> None:
        node = self.nodes[who]
        if node.lease.leads(self.clock(node)) and node.fenced == node.lease.term and node.paused is None:
            node.paused = (node.lease.term, node.plan[0], node.plan[1] + 1)

    @rule(who=WHO)
    def write(self, who: int) -> None:
        """The decided plan leaves at last, maybe after another took over."""
        node = self.nodes[who]
        if node.paused is None:
            return
        (term, revision, epoch), node.paused = node.paused, None
        if revision == self.store.plan_revision:
            self.store.plan_revision += 1
            self.store.plans.append((term, epoch))
            node.plan = (self.store.plan_revision, epoch)
            assert term >= self.store.fence

    @invariant()
    def at_most_one_leads(self) -> None:
        leading = [n.lease.me for n in self.nodes if n.lease.leads(self.clock(n))]
        assert len(leading) <= 1, leading

    @invariant()
    def epochs_and_terms_grow_and_no_plan_is_doubled(self) -> None:
        epochs = [epoch for _, epoch in self.store.plans]
        terms = [term for term, _ in self.store.plans]
        assert epochs == sorted(set(epochs))
        assert terms == sorted(terms)


TestSchedulers = Schedulers.TestCase
TestSchedulers.settings = examples(150, stateful_step_count=80)


class Cluster:
    """Two schedulers whose messages arrive at once; for the ordinary course of things."""

    def __init__(self) -> None:
        self.now, self.revision = 0.0, 0
        self.held: Held | None = None
        self.leases = {name: Lease(name) for name in ("a", "b")}

    def turn(self, name: str) -> None:
        lease = self.leases[name]
        lease.change(self.now)
        claim = lease.renewal(self.now) or lease.saw(self.held, self.now)
        if claim is None:
            return
        if claim.revision == (self.held.revision if self.held else 0):
            self.revision += 1
            self.held = Held(name, claim.term, self.revision)
            lease.wrote(claim, self.revision, self.now)
        else:
            lease.refused()

    def run(self, seconds: float, *names: str) -> None:
        end = self.now + seconds
        while self.now < end:
            for name in names:
                self.turn(name)
            self.now += RENEW_S

    def leader(self) -> str:
        return " ".join(name for name, lease in self.leases.items() if lease.leads(self.now))


def test_the_first_leads_and_keeps_leading() -> None:
    cluster = Cluster()
    cluster.run(60, "a", "b")
    assert cluster.leader() == "a"
    assert cluster.leases["a"].term == 1


def test_a_leader_that_is_gone_is_followed_within_the_lease_and_one_look() -> None:
    cluster = Cluster()
    cluster.run(5, "a", "b")
    cluster.run(LEASE_S + RENEW_S, "b")
    assert cluster.leader() == "b"
    assert cluster.leases["b"].term == 2
    cluster.run(5, "a", "b")  # and when it is back, it follows
    assert cluster.leader() == "b"


def test_a_lease_given_back_is_taken_at_once() -> None:
    cluster = Cluster()
    cluster.run(5, "a", "b")
    back = cluster.leases["a"].give_back()
    assert back is not None
    cluster.revision += 1
    cluster.held = Held("", back.term, cluster.revision)
    cluster.run(RENEW_S, "b")
    assert cluster.leader() == "b"


def test_a_leader_whose_store_was_lost_claims_again_in_the_same_term() -> None:
    cluster = Cluster()
    cluster.run(5, "a", "b")
    cluster.held, cluster.revision = None, 0
    cluster.run(2 * RENEW_S, "b", "a")
    assert (cluster.leader(), cluster.leases["a"].term) == ("a", 1)
