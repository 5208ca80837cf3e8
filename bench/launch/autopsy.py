"""Why a worker died, from what it printed and from what the kernel counts."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from pathlib import Path

LOG_LINES = 30
DUMP_LINES = 120
"""Of a hanging process: the stacks of all of its threads, each with its newest call first."""

HANGING = re.compile(r"^Timeout \([\d:.]+\)!$", re.MULTILINE)
"""What faulthandler prints before the stacks of a process that it ends."""


PEER_GONE = re.compile(
    r"connection (was )?(closed|reset)|broken pipe|timed out waiting|gloo/transport|nccl"
    r"|Dist(Network|Store|Backend)Error",
    re.IGNORECASE,
)
"""What gloo, NCCL and torch's store say when another rank is gone."""


def describe_exit(code: int) -> str:
    """A process's exit code in words."""
    if code == -signal.SIGKILL:
        return "the process was killed (SIGKILL): by the kernel for its memory, or by somebody"
    if code < 0:
        return f"the process died of {signal.Signals(-code).name}"
    return f"the process ended with exit code {code} and without a row"


def lost_peer(reason: str) -> bool:
    """Whether a rank failed because another one did."""
    return PEER_GONE.search(reason) is not None


def hung(logs: Sequence[Path]) -> bool:
    """Whether the watchdog of one of these processes ended it."""
    return any(HANGING.search(_text(log)) for log in logs)


def last_words(logs: Sequence[Path]) -> str:
    """The last lines of the log of each rank; all of a dump, if one is there."""
    parts = []
    for rank, log in enumerate(logs):
        text = _text(log)
        dump = HANGING.search(text)
        lines = text[dump.start() :].splitlines()[:DUMP_LINES] if dump else text.splitlines()
        words = "\n".join(lines if dump else lines[-LOG_LINES:])
        parts.append(f"rank {rank}:\n{words}" if len(logs) > 1 and words else words)
    return "\n".join(part for part in parts if part)


def oom_kills() -> int:
    """How many processes of this one's control group the kernel has killed for memory so far.

    0 where there are no such groups, or the kernel does not count.
    """
    groups = (line.split(":", 2) for line in _text(Path("/proc/self/cgroup")).splitlines())
    for _, controllers, path in groups:
        if not controllers:
            counter = Path(f"/sys/fs/cgroup{path}/memory.events")
        elif "memory" in controllers.split(","):
            counter = Path(f"/sys/fs/cgroup/memory{path}/memory.oom_control")
        else:
            continue
        for line in _text(counter).splitlines():
            name, _, number = line.partition(" ")
            if name == "oom_kill" and number.isdecimal():
                return int(number)
    return 0


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
