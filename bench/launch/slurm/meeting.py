"""Where the processes of a cell of several nodes meet: the first node finds a port and says it."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from bench.launch.entry import Place
from bench.records.files import write_atomically
from bench.spec import Run

PATIENCE_S = 300.0
"""How long a node waits for the first one; a network file system may show a file a minute late."""
POLL_S = 0.2


class NobodyCameError(Exception):
    """The first node has not said where to meet."""


@dataclass(frozen=True)
class Node:
    """A node among those of a job step, each of which has `bench work` once."""

    index: int
    n_nodes: int
    address_file: Path  # in a folder that all of them see

    def places(self, run: Run) -> list[Place]:
        """The ranks of a run that are this node's.

        Raises:
            NobodyCameError: the first node has not said where to meet.
        """
        ranks = run.resources.devices
        address, port = self._meeting_point()
        return [
            Place(self.index * ranks + i, i, ranks * self.n_nodes, address=address, port=port)
            for i in range(ranks)
        ]

    def _meeting_point(self) -> tuple[str, int]:
        if self.index == 0:
            host, port = host_name(), _free_port()
            write_atomically(self.address_file, f"{host} {port}".encode())
            return host, port
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                host, port_text = self.address_file.read_text().split()
            except FileNotFoundError:
                time.sleep(POLL_S)
            else:
                return host, int(port_text)
        raise NobodyCameError(f"no word of the first node in {PATIENCE_S:g} s: {self.address_file}")


def this_node(folder: Path) -> Node | None:
    """By what Slurm has told this process; None where it is the only one."""
    n_nodes = int(os.environ.get("SLURM_STEP_NUM_NODES", "1"))
    if n_nodes == 1:
        return None
    keys = ("ARRAY_JOB_ID", "ARRAY_TASK_ID", "RESTART_COUNT", "STEP_ID")
    name = "_".join(os.environ.get(f"SLURM_{key}", "0") for key in keys)
    return Node(int(os.environ["SLURM_NODEID"]), n_nodes, folder / f"{name}.address")


def host_name() -> str:
    """The name by which other nodes reach this one: MASTER_ADDR if it is set, or Slurm's."""
    if given := os.environ.get("MASTER_ADDR"):
        return given
    names = (os.environ.get("SLURMD_NODENAME"), socket.gethostname())
    return next((name for name in names if name is not None and _resolves(name)), "127.0.0.1")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port


def _resolves(name: str) -> bool:
    try:
        socket.getaddrinfo(name, None)
    except OSError:
        return False
    return True
