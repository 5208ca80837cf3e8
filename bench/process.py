"""What every worker process does for itself, whoever started it. Nothing here imports torch."""

from __future__ import annotations

import multiprocessing
import os
import threading
from contextlib import suppress
from pathlib import Path


def die_with_parent() -> None:
    """End this process as soon as the one that started it has ended, however that died."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def say(line: str) -> None:
    """Print on stderr, at once; a disk too full for it is no reason to stop."""
    with suppress(OSError):
        os.write(2, f"{line}\n".encode(errors="backslashreplace"))


def data_bytes() -> int:
    """What RLIMIT_DATA counts of this process so far; 0 where Linux does not tell."""
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else ():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0
