"""A whole system as a person starts it: `hams-ctl up` in a process of its own, asked through `hams-ctl`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hams_services.ctl.actions.deploy import STREAMS_S
from support.wait import PATIENCE, until_sync

ROOT = Path(__file__).parents[2]
TWO_CORES = ("openvino:CPU@0", "onnxruntime:CPU@1")


def cores() -> tuple[str, str]:
    """Two unlike devices on the cores this machine lets us use."""
    allowed = sorted(os.sched_getaffinity(0))
    return f"openvino:CPU@{allowed[0]}", f"onnxruntime:CPU@{allowed[min(1, len(allowed) - 1)]}"


class Up:
    """A running `hams-ctl up`. Its state lies in `home`; the cache of fetched networks is the user's own."""

    def __init__(self, home: Path, *devices: str, options: tuple[str, ...] = ()) -> None:
        self.home = home
        self.env = {**os.environ, "HAMS_HOME": str(home), "HAMS_HOST": "box", "COLUMNS": "200"}
        self.env.pop("HAMS_NATS_URL", None)
        self._devices = devices
        self._options = options
        self._process: subprocess.Popen[str] | None = None
        self._output = home / "up.out"

    def __enter__(self) -> Up:
        self.home.mkdir(parents=True, exist_ok=True)
        argv = [sys.executable, "-m", "hams_services.ctl", "up", *self._options]
        for device in self._devices:
            argv += ["--device", device]
        if "--nats" not in self._options:
            argv += ["--port", "0"]
        if "--web" not in self._options:
            argv += ["--no-web"]
        with self._output.open("w") as out:
            process = self._process = subprocess.Popen(argv, env=self.env, stdout=out, stderr=out, text=True)
        try:
            until_sync(lambda: "next: " in self.output() or process.poll() is not None, 120, "hams-ctl up")
            assert process.poll() is None, self.output() + self.logs()
        except BaseException:  # nothing is left behind: its parts end with it
            process.kill()
            process.wait()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process is not None and self._process.poll() is None:
            assert self.stop() == 0, self.output()

    def stop(self, number: int = signal.SIGTERM, timeout: float = 120) -> int:
        """Signal it and return its exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(timeout * PATIENCE)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def output(self) -> str:
        return self._output.read_text()

    def logs(self) -> str:
        """All parts' logs, for the message of a failed assertion."""
        return "\n".join(f"--- {p.name}\n{p.read_text()[-3000:]}" for p in sorted((self.home / "logs").glob("*.log")))

    @property
    def url(self) -> str:
        url = json.loads((self.home / "up.json").read_text())["url"]
        assert isinstance(url, str)
        return url

    @property
    def page(self) -> str:
        """Address of the page, where `--web` asked for one."""
        return next(line.split()[1] for line in self.output().splitlines() if line.strip().startswith("page: "))

    def _run(self, args: tuple[str | Path | int, ...], timeout: float) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "hams_services.ctl", *map(str, args)]
        for _ in range(3):  # a broker that was killed is away for a moment
            done = subprocess.run(argv, env=self.env, capture_output=True, text=True, timeout=timeout * PATIENCE)
            if "no broker at" not in done.stderr or "--nats" in argv:
                break
        return done

    def ctl(self, *args: str | Path | int, code: int = 0, timeout: float = 180) -> str:
        """Run `hams-ctl`, expect exit `code`, return its output (stdout; for an error both)."""
        done = self._run(args, timeout)
        both = done.stdout + done.stderr
        assert done.returncode == code, f"{args} gave {done.returncode}:\n{both}\n{self.logs()}"
        assert "Traceback" not in both, both
        return done.stdout if code == 0 else both

    def deploy_says(self, said: str, group: Path, code: int) -> str:
        """Deploy until it says so, and ends with `code`; again only after it has waited for slow streams in vain."""
        end = time.monotonic() + 60 * PATIENCE
        while True:
            begun = time.monotonic()
            done = self._run(("deploy", group), 180)
            both = done.stdout + done.stderr
            if said in both or time.monotonic() - begun < STREAMS_S or begun > end:
                break
        assert (said in both, done.returncode) == (True, code), f"{done.returncode}: {both}\n{self.logs()}"
        assert "Traceback" not in both, both
        return both

    def json(self, *args: str | Path) -> Any:
        return json.loads(self.ctl(*args, "--json"))

    def json_when(self, true: Callable[[Any], object], *args: str | Path, timeout: float = 60) -> Any:
        """What `hams-ctl … --json` says once it is as wanted; until then it may fail, or say something else."""
        end = time.monotonic() + timeout * PATIENCE
        while True:
            done = self._run((*args, "--json"), 180)
            if done.returncode == 0 and true(said := json.loads(done.stdout)):
                return said
            assert time.monotonic() < end, f"{args}: {done.stdout}{done.stderr}\n{self.logs()}"

    def children(self) -> dict[str, int]:
        """Pids of the parts by the module they run (agents: by their device)."""
        found: dict[str, int] = {}
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            try:
                words = (folder / "cmdline").read_bytes().decode().split("\0")
                parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, ValueError):
                continue
            if parent == self.pid:
                name = words[words.index("--device") + 1] if "--device" in words else " ".join(words[:4])
                while name in found:  # the second of two schedulers
                    name += "+"
                found[name] = int(folder.name)
        return found

    def pid_of(self, word: str) -> int:
        """Pid of the one part whose command line holds `word`."""
        [pid] = [pid for name, pid in self.children().items() if word in name]
        return pid

    def kill(self, word: str) -> int:
        """Kill -9 one part and return the pid it had."""
        pid = self.pid_of(word)
        os.kill(pid, signal.SIGKILL)
        return pid

    def until_answering(self, timeout: float = 60) -> None:
        """Wait until scheduler and pipeline answer again, after one of them or the broker was killed."""
        self.json_when(lambda status: status["streams"], "status", timeout=timeout)

    def stream(self, name: str = "") -> dict[str, Any]:

        def those(status: Any) -> list[dict[str, Any]]:
            return [s for s in status["streams"] if not name or s["stream"] == name]

        return those(self.json_when(those, "status"))[0]

    def check_ledger(self) -> dict[str, Any]:
        """Frame conservation, as `status` shows it."""
        stream = self.stream()
        closed = sum(stream[end] for end in ("delivered", "gated"))
        closed += sum(sum(stream[end].values()) for end in ("dropped", "failed"))
        assert stream["submitted"] == closed + stream["in_flight"]
        return stream

    def until_ended(self, timeout: float = 120) -> dict[str, Any]:
        """Wait for the stream to end and return its ledger."""
        end = time.monotonic() + timeout * PATIENCE
        while self.stream()["state"] in ("waiting", "playing"):
            assert time.monotonic() < end, f"stream has not ended: {self.stream()}\n{self.logs()}"
            time.sleep(0.2)
        return self.check_ledger()
