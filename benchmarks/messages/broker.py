"""Every subject as every role on a real broker, with real processes and the roles' own credentials."""

from __future__ import annotations

import asyncio
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nats

from benchmarks.messages import targets
from benchmarks.messages.mutate import message
from benchmarks.messages.samples import Samples
from benchmarks.messages.world import READERS, Outcome
from hams_services.ctl.system.broker import MAX_PAYLOAD
from hams_services.security.folder import set_up_site
from hams_services.security.roles import Role
from hams_services.security.rotation import Folder
from hams_shared.runtime.credentials import load
from support.grey import group_file, video
from support.results import Subscriber
from support.up import Up

DEVICE = "box.openvino.cpu0"
DEVICES = ("openvino:CPU@0",)
GROWTH_MIB = 200.0
"""Most memory that a part may have more after its run than before, MiB."""


class Site:
    """A running system with credentials, whose group plays a video without end."""

    def __init__(self, up: Up, secrets: Path, results: Subscriber) -> None:
        self.up, self.secrets, self.results = up, secrets, results
        self.pids = up.children()

    def rss_mib(self) -> dict[str, float]:
        """Resident memory of each part, MiB."""
        found = {}
        for name, pid in self.pids.items():
            text = Path(f"/proc/{pid}/status").read_text()
            found[name] = int(re.findall(r"VmRSS:\s+(\d+)", text)[0]) / 1024
        return found

    def tracebacks(self) -> list[str]:
        """Tracebacks in the parts' logs."""
        found = []
        for path in sorted((self.up.home / "logs").glob("*.log")):
            parts = path.read_text(errors="replace").split("Traceback (most recent call last)")
            found += [f"{path.name}: {one[:1500]}" for one in parts[1:]]
        return found


@contextmanager
def site() -> Iterator[Site]:
    """Start one; its results go to an application that is not fuzzed."""
    with tempfile.TemporaryDirectory(prefix="hams-messages-") as name:
        folder = Path(name)
        secrets = folder / "secrets"
        set_up_site(secrets, [], list(targets.BOXES), max_payload=MAX_PAYLOAD)
        for user in ("app-one", "dashboard-one", "app-listener"):
            Folder(secrets, MAX_PAYLOAD).add(user)
        group = group_file(folder, video(folder), mode="lossless", pace="realtime", loop=True)
        options = ("--secrets", str(secrets), "--host", "0.0.0.0")
        with (
            Up(folder / "home", *DEVICES, options=options) as up,
            Subscriber(up.url, targets.GROUP, secrets / "app-listener.creds") as results,
        ):
            up.ctl("deploy", group)
            results.until(10)
            yield Site(up, secrets, results)


def of_device(subject: str) -> str:
    """`subject` for the device of this system."""
    return subject.replace(targets.DEVICE, DEVICE)


async def send(url: str, secrets: Path, role: Role, each: int, valid: Samples, seed: int) -> tuple[Outcome, set[str]]:
    """Publish on each subject `each` times as `role`; return what was sent and the subjects that were refused."""
    outcome, refused, rng = Outcome(role.user), set[str](), random.Random(f"{seed} {role.user} broker")

    async def on_error(error: Exception) -> None:
        if found := re.search(r'permissions violation for publish to "([^"]+)"', str(error).lower()):
            refused.add(found[1])

    user = load(secrets / f"{role.user}.creds")
    client = await nats.connect(
        url, error_cb=on_error, nkeys_seed_str=user.seed, tls=user.tls(), inbox_prefix=user.inbox_prefix
    )
    began = time.process_time()
    try:
        for plain in [*targets.live(), *targets.of_broker()]:
            subject = of_device(plain)
            for _ in range(each):
                await client.publish(subject, message(valid.get(plain, []), rng), reply=f"{user.inbox_prefix}.x")
                outcome.sent[subject] += 1
            await client.flush(30)
        await client.flush(30)  # nats-py's PING may overtake the last message: its refusal comes before the second PONG
    finally:
        await client.close()
    outcome.cpu_s = time.process_time() - began
    return outcome, refused


def check(site: Site, role: Role, outcome: Outcome, refused: set[str], before: dict[str, float]) -> None:
    """Note what the role could do that it may not, and what its messages did to the parts."""
    allowed = {of_device(one).lower() for one in [*targets.live(), *targets.of_broker()] if _may(role, one)}
    every = {of_device(one).lower() for one in [*targets.live(), *targets.of_broker()]}
    outcome.expect(refused == every - allowed, f"wrong rights: {sorted(refused ^ (every - allowed))[:5]}")
    outcome.expect(site.up.children() == site.pids, "a part has ended or was restarted")
    grown = {name: mib - before[name] for name, mib in site.rss_mib().items() if mib - before[name] > GROWTH_MIB}
    outcome.expect(not grown, f"memory grew, MiB: {grown}")
    if role.user == "admin":
        return  # it may delete the group, and the buckets themselves
    site.up.until_answering()
    if role.user.startswith((*READERS, "optimizer")):
        count = len(site.results.received)
        site.results.until(count + 25)
        received = list(site.results.received)
        frames = [one.frame for one in received]
        outcome.expect(frames == list(range(frames[0], frames[0] + len(frames))), "frames are missing or doubled")
        light = [round(float(one.objects[0]["light"]["value"]) / 4) for one in received]
        right = all(abs(value - frame % 60) <= 1 for value, frame in zip(light, frames, strict=True))
        outcome.expect(right, "results are wrong")


def _may(role: Role, subject: str) -> bool:
    return targets.may(role, of_device(subject))


def run(each: int, seed: int, valid: Samples, users: list[str] | None = None) -> list[Outcome]:
    """Fuzz one system as each role (only those of `users`), the admin last; each subject `each` times."""
    outcomes: list[Outcome] = []
    # Scheduler and pipeline may overwrite the group's record, and the admin delete it: then there are no results.
    order = {"optimizer": 1, "agent-box": 2, "agent-box2": 2, "scheduler": 3, "pipeline": 3, "admin": 4}
    harmless_first = sorted(targets.all_roles(), key=lambda role: order.get(role.user, 0))
    seen: Counter[str] = Counter()
    with site() as running:
        for role in harmless_first:
            if users is not None and role.user not in users:
                continue
            before = running.rss_mib()
            outcome, refused = asyncio.run(send(running.up.url, running.secrets, role, each, valid, seed))
            check(running, role, outcome, refused, before)
            for one in running.tracebacks():
                seen[one] += 1
                outcome.expect(seen[one] > 1, one)
            outcomes.append(outcome)
            counts = f"{len(refused)} of {len(outcome.sent)} subjects refused, {len(outcome.faults)} faults"
            print(f"broker: {role.user}: {outcome.sent.total()} messages, {counts}", *outcome.faults, flush=True)
    return outcomes
