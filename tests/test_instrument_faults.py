"""Faults that would make an instrument's verdict or number look better or worse than it is."""

import multiprocessing
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bench.measure import decay, footprint, longest_length, memory, streaming
from bench.measure.decay import Floats
from bench.measure.longest_length import Attempt
from tests.scripted_meter import Scripted
from tests.small_run import a_run
from tests.test_footprint import BEFORE, CPU

MIB = 1 << 20
ROUNDING = float(np.finfo(np.float64).eps)
SAMPLING = 0.1  # of an interval's width: what two bootstraps of 1000 and 4000 resamples differ by
DISTANCES = np.arange(1.0, 21.0)
TAUS = np.linspace(4.0, 20.0, 24)[:, None]
NORMS = np.exp(-DISTANCES / TAUS)
"""Rows of so different decay that their mean decays otherwise than their root mean square."""


def blocks(*values_ms: float) -> Floats:
    """Blocks of 16 steps each, all of a block of one time."""
    return np.repeat(1e-3 * np.array(values_ms)[:, None], 16, axis=1)


def latency(*medians_ms: float) -> dict[str, object]:
    """What is said of steps whose times do not vary at a position."""
    positions = (1, 30, 300, 3000)
    timed = {p: blocks(*[ms] * 6) for p, ms in zip(positions, medians_ms, strict=True)}
    return streaming._latency("stream", timed, blocks(*[medians_ms[0]] * 6))


def test_a_slope_whose_interval_holds_zero_is_flat_however_large_the_ratio() -> None:
    last = blocks(0.5, 0.5, 0.5, 2.0, 2.0, 2.0, 2.0)
    timed = {1: blocks(*[1.0] * 7), 3000: last}
    found = streaming._latency("stream", timed, timed[1])
    low, high = (found[f"stream_us_per_1000_tokens_read_{end}"] for end in ("low", "high"))
    assert low < 0 < found["stream_us_per_1000_tokens_read"] <= high
    assert found["stream_latency_noise"] < found["stream_latency_ratio"] == pytest.approx(2.0)
    assert found["stream_latency_verdict"] == "flat"


def test_the_ratio_is_of_the_last_position_to_the_first() -> None:
    dipped = latency(1.0, 0.8, 0.8, 1.05)
    assert dipped["stream_us_per_1000_tokens_read_low"] > 0
    assert dipped["stream_latency_ratio"] == pytest.approx(1.05)
    assert dipped["stream_latency_verdict"] == "flat"  # 1.05 / 0.8 would be above the noise
    assert latency(2.0, 1.5, 1.2, 1.0)["stream_latency_ratio"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("last", "verdict"), [(4096, "flat"), (4104, "flat"), (4136, "flat"), (4200, "growing")]
)
def test_a_counter_of_a_few_bytes_is_no_growth_of_a_state(last: int, verdict: str) -> None:
    found = streaming._state("stream", {1: 64, 300: 4096, 3000: last})
    assert found["stream_state_verdict"] == verdict


@pytest.mark.parametrize(
    ("code", "said", "expected"),
    [
        (-6, "terminate called: std::bad_alloc", "memory"),
        (1, "mmap: Cannot allocate memory", "memory"),
        (-9, "", "failed"),
        (-11, "Fatal Python error: Segmentation fault", "failed"),
        (1, "ImportError: no module", "failed"),
        (0, "", "failed"),
    ],
)
def test_the_death_of_a_try_ends_the_search_unless_memory_was_refused(
    monkeypatch: pytest.MonkeyPatch, code: int, said: str, expected: str
) -> None:
    class Process:
        exitcode = code

        def __init__(self, target: object, args: tuple[object, ...]) -> None:
            self.folder = args[-1]

        def start(self) -> None:
            assert isinstance(self.folder, Path)
            (self.folder / "log").write_text(said)

        def join(self, seconds: float | None = None) -> None:
            pass

        def kill(self) -> None:
            pass

    monkeypatch.setattr(multiprocessing, "get_context", lambda _: SimpleNamespace(Process=Process))
    deadline = longest_length.time.monotonic() + 100

    def attempt(length: int) -> Attempt:
        if length <= 100:
            return Attempt("fits")
        return longest_length._attempt(a_run(), "train", None, 9.0, deadline, length)

    assert attempt(200).outcome == expected
    found = longest_length.search(attempt, 64)
    assert (found.length, found.ends) == ((64, "memory") if expected == "memory" else (None, None))


class Keeping(Scripted):
    """A meter of what a process holds: what is freed stays at hand until it settles."""

    kept = 0

    def take(self, n_bytes: int) -> None:
        self.kept = max(0, self.kept - n_bytes)
        self.now += n_bytes
        self.most = max(self.most, self.live())

    def live(self) -> int:
        return self.now + self.kept

    def reset_peak(self) -> None:
        self.most = self.live()

    def settle(self) -> None:
        self.kept = 0


@pytest.fixture
def keeping() -> Keeping:
    """A process that has freed 5000 bytes and has them still."""
    meter = Keeping(BEFORE)
    meter.take(5000)
    meter.take(-5000)
    assert meter.live() == BEFORE + 5000
    return meter


def test_what_was_freed_before_is_in_no_peak_and_hides_none(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step() -> None:
        keeping.take(500)
        keeping.take(-500)

    def built(prepared: object) -> object:
        keeping.take(100)
        return step

    monkeypatch.setattr(footprint, "InferenceStep", built)
    found = footprint._inference(a_run(), CPU, keeping)
    assert found == {"infer_peak_bytes": 100 + 500}


def test_what_was_freed_before_hides_no_activations(keeping: Keeping) -> None:
    step = footprint.TrainingStep(footprint.prepare(a_run()))
    step.model.register_forward_pre_hook(lambda *_: keeping.take(120))
    assert footprint._activation_bytes(step, keeping) == 120


GAPS = """
import torch
torch.set_num_threads(1)
from bench.measure.memory import peak_resident_bytes
MIB = 1 << 20
def rehearsal():
    torch.ones(20 * MIB // 4)  # glibc keeps what is smaller than the largest block freed so far
def gaps():
    held = [torch.ones(MIB // 16) for _ in range(400)]  # 100 MiB in blocks of 256 KiB
    del held[::2]  # 50 MiB, in gaps too small for what follows
    held.append(torch.ones(60 * MIB // 4))
print(peak_resident_bytes(gaps, rehearsal))
"""


def test_freed_blocks_that_an_allocator_would_keep_are_not_in_a_resident_peak() -> None:
    found = int(subprocess.check_output([sys.executable, "-c", GAPS], text=True))
    assert abs(found - 110 * MIB) < 4 * MIB, found / MIB


def test_what_the_cache_of_cuda_kept_is_not_in_what_is_reserved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache = {"allocated": 20, "reserved": 90}
    stands_in = SimpleNamespace(
        empty_cache=lambda: cache.update(reserved=cache["allocated"]),
        max_memory_reserved=lambda _: cache["reserved"],
        memory_allocated=lambda _: cache["allocated"],
        memory_stats=lambda _: {},
    )
    monkeypatch.setattr(memory.torch, "cuda", stands_in)
    meter = memory.CudaMeter(torch.device("cuda", 0))
    assert meter.live() == 20
    meter.settle()
    assert meter.extra()["peak_reserved_bytes"] == 20


def rate_of(norms: Floats) -> float:
    """Minus the slope of the line through the logarithms of the root mean square of the rows."""
    logs = 0.5 * np.log(np.mean(norms**2, axis=0))
    return -float(np.polyfit(DISTANCES, logs, 1)[0])


def test_a_decay_is_that_of_the_root_mean_square_of_the_rows() -> None:
    found = decay.fit(DISTANCES, NORMS, ROUNDING)
    of_means = -float(np.polyfit(DISTANCES, np.log(NORMS.mean(axis=0)), 1)[0])
    assert found.rate_per_token == pytest.approx(rate_of(NORMS))
    assert found.rate_per_token != pytest.approx(of_means, rel=0.02)


def test_the_interval_of_a_decay_is_that_of_a_bootstrap_of_its_rows() -> None:
    found = decay.fit(DISTANCES, NORMS, ROUNDING)
    rng = np.random.default_rng(1)
    rates = [rate_of(NORMS[rng.integers(0, len(NORMS), len(NORMS))]) for _ in range(4000)]
    low, high = np.percentile(rates, [2.5, 97.5])
    apart = SAMPLING * (high - low)
    assert found.rate_low == pytest.approx(low, abs=apart)
    assert found.rate_high == pytest.approx(high, abs=apart)
