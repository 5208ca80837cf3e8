"""The command: which lines are shown, how they are printed, and whether all bounds are met."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator

import torch

from architectures.kernels.native.library import KERNELS, ready
from tests.speed.kernel_table import (
    convolutions,
    limits,
    mamba_block,
    matrix_states,
    processes,
    recurrences,
    scans,
)
from tests.speed.kernel_table.comparison import BATCH, Comparison
from tests.speed.kernel_table.limits import Limits
from tests.speed.kernel_table.timing import Outcome, Timer, compare, keep_freed_memory

FAMILIES = (
    scans.selective_scans,
    recurrences.comparisons,
    matrix_states.comparisons,
    convolutions.short,
    scans.other_scans,
    convolutions.long,
)
PEAK_TITLE = f"{mamba_block.NAME}, peak memory / mambapy MambaBlock"
IMPORT_TITLE = "import of architectures / import of torch"


class Table:
    """The lines that are asked for, printed as they come, and which of their bounds are met."""

    def __init__(self, timer: Timer, n_threads: int, only: str) -> None:
        self.timer, self.n_threads, self.only = timer, n_threads, re.compile(only)
        self.enforced = timer.device.type == "cpu"
        self.met: list[bool] = []
        self.left_out: list[str] = []

    def show(self) -> None:
        """All lines."""
        rates = limits.measure(self.timer)
        print(rates, flush=True)
        for comparison in self._comparisons():
            if self._wanted(comparison.title, quick=comparison.quick):
                self._line(comparison, compare(comparison, self.timer), rates)
        if self.enforced:
            self._blocks(rates)
            self._peak()
            self._imports()
        if self.left_out:
            print(f"left out by --quick: {'; '.join(self.left_out)}")

    def _comparisons(self) -> Iterator[Comparison]:
        """Those that run in this process."""
        for family in FAMILIES:
            for comparison in family(self.timer.device):
                if self.enforced or comparison.cuda:
                    yield comparison
        if not self.enforced:
            yield mamba_block.comparison(self.timer.device, bound=1.0)

    def _wanted(self, title: str, *, quick: bool) -> bool:
        """Whether a line is asked for; --quick leaves some out, and says so."""
        if not self.only.search(title):
            return False
        if self.timer.quick and not quick:
            self.left_out.append(title)
            return False
        return True

    def _blocks(self, rates: Limits) -> None:
        """Time the Mamba block in two fresh processes."""
        for variant, bound in processes.BLOCK_BOUNDS.items():
            comparison = mamba_block.comparison(self.timer.device, bound, variant)
            if self._wanted(comparison.title, quick=variant == processes.DEFAULT_MALLOC):
                arguments = variant, self.timer, self.n_threads
                self._line(comparison, processes.fresh(processes.timed_block, *arguments), rates)

    def _peak(self) -> None:
        """How far memory rises in a step of the Mamba block, in two fresh processes."""
        if not self._wanted(PEAK_TITLE, quick=False):
            return
        ours, theirs = (
            processes.fresh(processes.block_peak_bytes, which, self.n_threads) / 2**20
            for which in ("ours", "mambapy")
        )
        name, peer_name = PEAK_TITLE.split(" / ")
        text = f"{name:35} {ours:8.1f} MiB  {peer_name:22} {theirs:9.1f} MiB  {theirs / ours:7.1f}x"
        self._verdict(text, processes.MEMORY_BOUND, theirs / ours >= processes.MEMORY_BOUND)

    def _imports(self) -> None:
        """What the import of all architectures adds to that of torch."""
        if not self._wanted(IMPORT_TITLE, quick=True):
            return
        found = processes.time_imports(self.timer)
        added_ms = 1e3 * (found.both_s - found.torch_s)
        text = (
            f"{'import of all but torch':35} {added_ms:8.0f} ms  {'import of torch':22} "
            f"{1e3 * found.torch_s:9.0f} ms  {found.ratio:7.1f}x  A/A {found.noise:.2f}  "
            f"compiled: {', '.join(found.compiled) or 'nothing'}"
        )
        met = found.ratio >= processes.IMPORT_BOUND and not found.compiled
        self._verdict(text, processes.IMPORT_BOUND, met)

    def _line(self, comparison: Comparison, outcome: Outcome, rates: Limits) -> None:
        """Print the times of a comparison, their ratio and what they are worth."""
        ms, low, high, peer_ms = (
            1e3 * seconds
            for seconds in (outcome.seconds, outcome.low, outcome.high, outcome.peer_seconds)
        )
        text = (
            f"{comparison.name:35} {ms:8.2f} ms ({low:.2f}-{high:.2f})  "
            f"{comparison.peer_name:22} {peer_ms:9.2f} ms  {outcome.ratio:7.1f}x  "
            f"A/A {outcome.noise:.2f}  {rates.share(outcome)}  "
            f"dropped {outcome.dropped}/{outcome.blocks}"
        )
        met = outcome.met(comparison.bound, not_slower=comparison.not_slower)
        self._verdict(text, comparison.bound, met)

    def _verdict(self, text: str, bound: float, met: bool) -> None:
        """Print a line with its bound, which holds for CPUs."""
        if not self.enforced:
            print(text, flush=True)
            return
        self.met.append(met)
        print(f"{text}  bound {bound:g}x {'met' if met else 'NOT MET'}", flush=True)


def main(description: str) -> int:
    """Print the table and a summary; 1 where a bound is not met."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="within a minute; says what it omits")
    parser.add_argument("--threads", type=int, default=1, help="1: CPU time; more: wall time")
    parser.add_argument("--only", default="", metavar="PATTERN", help="lines that match it (regex)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device is visible: nothing to compare")
        return 2
    device = torch.device(arguments.device)
    missing = [name for name in KERNELS if not ready(name)]
    if device.type == "cpu" and missing:
        print(f"no native code here for {', '.join(missing)}: nothing to compare")
        return 1
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"  # that it is slow is what is shown
    keep_freed_memory()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    cpu = arguments.threads == 1 and device.type == "cpu"
    where = (
        torch.cuda.get_device_name() if device.type == "cuda" else f"{arguments.threads} threads"
    )
    print(f"{where}, {'CPU' if cpu else 'wall'} time, batch {BATCH}")
    timer = Timer(device, cpu=cpu, quick=arguments.quick)
    table = Table(timer, arguments.threads, arguments.only)
    table.show()
    if not table.enforced:
        print("bounds are those of CPUs: none was applied")
        return 0
    met = table.met
    if not met:
        print(f"nothing to show for {arguments.only!r}")
        return 2
    print(f"{'ok' if all(met) else 'TOO SLOW'}: {sum(met)} of {len(met)} bounds are met")
    return 0 if all(met) else 1
