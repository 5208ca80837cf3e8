"""Which of a cell's processes are this machine's, and where all of them meet."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UserError
from bench.records.files import write_atomically

MEETING_S = 300.0
"""How long a node waits for the first one to say where to meet; network file systems lag."""
POLL_S = 0.2


@dataclass(frozen=True)
class Place:
    """One node of those that work on a cell together; by default this machine alone does."""

    node: int = 0
    n_nodes: int = 1
    address_file: Path | None = None  # on a folder that all nodes see

    def meeting_point(self) -> tuple[str, int]:
        """Host and port of rank 0: found by the first node, and read from its file by the others.

        Raises:
            UserError: the first node has not said.
        """
        if self.address_file is None:
            return "127.0.0.1", free_port("127.0.0.1")
        if self.node == 0:
            host, port = host_name(), free_port("")
            write_atomically(self.address_file, f"{host} {port}".encode())
            return host, port
        deadline = time.monotonic() + MEETING_S
        while time.monotonic() < deadline:
            try:
                host, port_text = self.address_file.read_text().split()
            except FileNotFoundError:
                time.sleep(POLL_S)
            else:
                return host, int(port_text)
        raise UserError(
            f"the first node of this cell has not said in {MEETING_S:g} s where to meet "
            f"({self.address_file}): did it start, and do both see this folder?"
        )


def host_name() -> str:
    """The name by which other nodes reach this one: MASTER_ADDR if it is set, or Slurm's."""
    if given := os.environ.get("MASTER_ADDR"):
        return given
    for name in (os.environ.get("SLURMD_NODENAME"), socket.gethostname()):
        if name is not None and _resolves(name):
            return name
    return "127.0.0.1"


def free_port(host: str) -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def _resolves(name: str) -> bool:
    try:
        socket.getaddrinfo(name, None)
    except OSError:
        return False
    return True
