"""The real Slurm of the cluster tests: `slurm/local-cluster`, and what is done to it."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "slurm" / "local-cluster"
PATIENCE_S = 300.0  # on a machine that does other things too
PROGRAMS = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))

HERE = shutil.which("slurmctld", path=PROGRAMS) is not None

ON_A_CLUSTER = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not HERE, reason="there is no slurmctld: apt-get install slurm-wlm"),
]
"""What a file of cluster tests says as its `pytestmark`."""


def wait_for(condition: Callable[[], object], what: str, patience_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)


def processes(*variables: str) -> list[int]:
    """Processes with all of these NAME=VALUE in their environment."""
    wanted = {variable.encode() for variable in variables}
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if wanted <= set((entry / "environ").read_bytes().split(b"\0")):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


class LocalCluster:
    """One cluster in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}

    def call(self, what: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Say up, down or status to the script."""
        return subprocess.run(
            [sys.executable, str(SCRIPT), what, "--folder", str(self.folder), *options],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )

    def up(self, *options: str) -> str:
        """Start what does not run."""
        done = self.call("up", *options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def down(self) -> str:
        """End everything."""
        done = self.call("down")
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ask(self, *command: str) -> str:
        """What one of Slurm's programs answers."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=PATIENCE_S
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def submit(self, script: str, *options: str) -> str:
        """Submit a shell script that logs to `<job>.log` in the folder; the answer is its id."""
        path = self.folder / "script.sh"
        path.write_text(f"#!/bin/bash\n{script}\n")
        log = f"--output={self.folder}/%j.log"
        return self.ask("sbatch", "--parsable", log, *options, str(path)).strip()

    def state(self, job: str) -> str:
        """The state of a job or of one element of an array, such as PENDING."""
        return self.job(job)["JobState"]

    def job(self, job: str) -> dict[str, str]:
        """What Slurm knows of a job."""
        text = self.ask("scontrol", "show", "job", "--oneliner", job).splitlines()[0]
        return dict(re.findall(r"(\w+)=(\S*)", text))

    def cancel_all(self) -> None:
        """Cancel every job and wait until none is left."""
        self.ask("scancel", "--user", str(os.getuid()))
        wait_for(lambda: not self.ask("squeue", "--noheader").strip(), "an empty queue")

    def log(self, job: str) -> str:
        """What the job has printed so far."""
        path = self.folder / f"{job}.log"
        return path.read_text() if path.exists() else ""

    def of_node(self, name: str) -> list[int]:
        """Everything that runs on a node: its daemon, steps, and their processes."""
        return processes(f"SLURM_CONF={self.folder}/slurm.node.conf", f"SLURMD_NODENAME={name}")

    def daemon(self, name: str) -> int:
        """The process of a daemon."""
        line = re.search(rf"^{name} +process (\d+)$", self.call("status").stdout, re.MULTILINE)
        assert line is not None, f"{name} does not run"
        return int(line[1])

    def kill(self, name: str) -> None:
        """Kill a daemon and nothing else."""
        os.kill(self.daemon(name), signal.SIGKILL)

    def lose_node(self, name: str) -> None:
        """What a power cut does to a node."""
        while found := self.of_node(name):
            for process in found:
                try:
                    os.kill(process, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.05)
