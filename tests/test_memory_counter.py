"""The malloc counter on known allocations, the parts of a step, and what stands in where it fails.

Known values are those of the bytes asked for. What a fresh interpreter measures is exact to
EXACT; what the resident set says, to 2% or 4 MiB.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from architectures.body import UnsupportedError
from bench.measure import counted, footprint, malloc_counter, memory
from bench.measure.malloc_counter import CounterMissingError
from bench.spec import Run
from tests import hungry
from tests.scripted_meter import Scripted
from tests.small_run import a_run

MIB = 1 << 20
EXACT = MIB // 5

PRELUDE = """
import ctypes, mmap, sys, threading, torch
torch.set_num_threads(1)
MIB = 1 << 20
process = ctypes.CDLL(None)
for name in ("malloc", "calloc", "realloc", "aligned_alloc", "memalign", "valloc", "pvalloc"):
    getattr(process, name).restype = ctypes.c_void_p
for name in ("live", "peak"):
    getattr(process, f"seqbench_{name}_bytes").restype = ctypes.c_longlong
def measured(action):
    before = process.seqbench_live_bytes()
    process.seqbench_reset_peak()
    action()
    print(process.seqbench_peak_bytes() - before, process.seqbench_live_bytes() - before)
def touched(mib): return torch.ones(mib * MIB // 4)
def size(mib): return ctypes.c_size_t(int(mib * MIB))
def freed(block): process.free(ctypes.c_void_p(block))
"""
KNOWN = {  # what is done, and its peak in MiB; nothing is left
    "known": ("held = [touched(150) for _ in range(3)]", 450),
    "short spike": ("a = touched(100); b = touched(200); del b; c = touched(50)", 300),
    "untouched": ("torch.empty(400 * MIB, dtype=torch.uint8)", 400),
    "temporaries": ("a = torch.ones(16 * MIB); ((a + 1) * 2).sum()", 192),
    "blocks of 256 KiB": (
        "held = [torch.empty(MIB // 4, dtype=torch.uint8) for _ in range(300)]",
        75,
    ),
    "malloc": ("freed(process.malloc(size(30.5)))", 30.5),
    "calloc": ("freed(process.calloc(size(1), ctypes.c_size_t(7)))", 7),
    "realloc": ("freed(process.realloc(ctypes.c_void_p(process.malloc(size(5))), size(9)))", 9),
    "shrunk": (
        "b = process.realloc(ctypes.c_void_p(process.malloc(size(9))), size(2)); freed(b)",
        9,
    ),
    "aligned_alloc": ("freed(process.aligned_alloc(ctypes.c_size_t(4096), size(11)))", 11),
    "memalign": ("freed(process.memalign(ctypes.c_size_t(1 << 16), size(13)))", 13),
    "valloc": ("freed(process.valloc(size(3)))", 3),
    "pvalloc": ("freed(process.pvalloc(size(3)))", 3),
    "map": ("m = mmap.mmap(-1, 40 * MIB); m.resize(60 * MIB); m.close()", 60),
    "too much": ("assert not process.malloc(ctypes.c_size_t(2**64 - 8))", 0),
    "too many": ("assert not process.calloc(ctypes.c_size_t(2**40), ctypes.c_size_t(2**40))", 0),
    "usable": (
        "b = process.malloc(size(1)); process.malloc_usable_size.restype = ctypes.c_size_t; "
        "assert process.malloc_usable_size(ctypes.c_void_p(b)) == MIB; freed(b)",
        1,
    ),
    "threads": (
        "ts = [threading.Thread(target=lambda: [touched(1) for _ in range(50)][:0]) for _ in 'ab'];"
        "[t.start() for t in ts]; [t.join() for t in ts]",
        None,  # between 50 and 100
    ),
}


def with_counter(script: str, **environment: str) -> list[str]:
    """What a script prints in an interpreter that has the counter."""
    preload = {"LD_PRELOAD": str(malloc_counter.library()), **environment}
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, **preload},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    "environment",
    [{}, {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "2147483647"}],
    ids=["as it is", "freed memory kept"],
)
def test_known_allocations_are_counted_exactly(environment: dict[str, str]) -> None:
    script = PRELUDE + "".join(
        f"def action():\n    {done}\nmeasured(action)\n" for done, _ in KNOWN.values()
    )
    printed = [int(word) for word in with_counter(script, **environment)]
    for name, peak, left in zip(KNOWN, printed[::2], printed[1::2], strict=True):
        known = KNOWN[name][1]
        if known is None:
            assert 50 * MIB <= peak <= 100 * MIB + EXACT, name
        else:
            assert abs(peak - known * MIB) < EXACT, (name, peak / MIB)
        assert abs(left) < EXACT, name


def cell(**changes: object) -> Run:
    given = {"training": {"steps": 0, "batch_size": 2}, "measure": {"instruments": ["memory"]}}
    return a_run(**{"architecture": "gru", **given, **changes})


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """No counter: what stands in for it runs here."""

    def missing() -> Path:
        raise CounterMissingError("there is no C compiler")

    monkeypatch.setattr(malloc_counter, "library", missing)


@pytest.mark.slow
def test_a_body_that_takes_a_known_amount_in_forward_is_found_to(tmp_path: Path) -> None:
    with hungry.installed(tmp_path):
        body = {"name": "hungry", "bytes_per_token": MIB}
        found = memory.measure(cell(architecture=body, length=75, width=1000))
    assert found["memory_method"] == "malloc-counter"
    for key in ("activation_bytes", "infer_peak_bytes", "peak_bytes"):
        # A few activations (B, T, D) of 0.6 MB are alive with it, and what oneDNN repacks.
        assert 75 * MIB <= found[key] <= 79 * MIB, key
    parameters = 4 * found_parameters(found)
    assert found["gradient_bytes"] == parameters
    assert abs(found["optimiser_bytes"] - 2 * parameters) < 100  # and AdamW's counts of steps


def found_parameters(found: dict[str, object]) -> int:
    """Numbers in the model of the test above: embedding, scale, head."""
    n = (2 + 1) * 1000 + 2 * 1000 + 2
    assert found["parameter_bytes"] == 4 * n
    return n


def test_without_a_counter_the_resident_set_stands_in_and_says_why(
    in_this_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = memory.measure(cell())
    assert found["memory_method"] == "resident"
    assert found["memory_method_reason"] == "there is no C compiler"
    assert found["parameter_bytes"] == found["gradient_bytes"] > 0
    for key in ("peak_bytes", "activation_bytes", "infer_peak_bytes"):
        assert 0 <= found[key] < 64 * MIB
    monkeypatch.setattr(memory.Path, "exists", lambda _: False)
    with pytest.raises(UnsupportedError, match="and there is no C compiler"):
        memory.measure(cell())


@pytest.mark.parametrize("fault", ["no library", "no compiler", "no glibc"])
def test_every_lack_of_a_counter_has_its_reason(
    fault: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if fault == "no library":
        with pytest.raises(CounterMissingError, match="LD_PRELOAD did not load"):
            malloc_counter.MallocCounter()
        return
    if fault == "no compiler":
        monkeypatch.setenv("CC", "nocc")
    else:
        monkeypatch.setattr(malloc_counter.ctypes, "CDLL", lambda _: SimpleNamespace())
    with pytest.raises(CounterMissingError, match="nocc" if fault == "no compiler" else "glibc"):
        malloc_counter.library()


@pytest.mark.slow
def test_a_library_that_cannot_be_preloaded_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "wrong.so").write_text("no library")
    monkeypatch.setattr(malloc_counter, "library", lambda: tmp_path / "wrong.so")
    with pytest.raises(CounterMissingError, match="LD_PRELOAD did not load the malloc counter"):
        memory._counted(cell())


def test_an_error_of_the_other_process_is_the_same_error_here() -> None:
    raised = memory._raised("UnsupportedError", "cannot", "Traceback: there")
    assert isinstance(raised, UnsupportedError)
    assert raised.__notes__ == ["In the measuring process:\nTraceback: there"]
    assert isinstance(memory._raised("MemoryError", "", ""), MemoryError)
    assert str(memory._raised("RuntimeError", "out of memory", "")) == "out of memory"
    assert str(memory._raised("KeyError", "'x'", "")) == "KeyError: 'x'"
    assert isinstance(memory._death(-6, "what(): std::bad_alloc"), MemoryError)
    assert str(memory._death(-9, "")) == "the measuring process died of SIGKILL"


def test_the_process_that_counts_takes_the_products_and_not_the_allocator_of_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code = "import bench.measure.counted, sys; print('bench.training.allocator' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"
    settled = []
    monkeypatch.setattr(counted.products, "settle", settled.append)
    monkeypatch.setattr(counted, "footprint", lambda *_: {"peak_bytes": len(settled)})
    assert counted.measure_here(cell(), SimpleNamespace()) == {"peak_bytes": 1}


@pytest.mark.parametrize(("window", "known"), [(None, 120), (5, 50)])
def test_the_activations_are_those_of_the_forward_pass_and_of_the_largest_window(
    window: int | None, known: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10 bytes a token, which the way back releases after taking 1000 of its own."""
    meter, answer = Scripted(), torch.Tensor.backward
    held = []

    def forward(inputs: torch.Tensor) -> None:
        meter.take(10 * inputs.shape[1])
        held.append(10 * inputs.shape[1])

    def backward(loss: torch.Tensor) -> None:
        meter.take(1000)
        meter.take(-1000 - sum(held))
        held.clear()
        answer(loss)

    monkeypatch.setattr(torch.Tensor, "backward", backward)
    training = {"steps": 0, "batch_size": 2, "tbptt_window": window}
    prepared = footprint.prepare(cell(training=training))
    step = footprint.TrainingStep(prepared)
    step.model.register_forward_pre_hook(lambda _, inputs: forward(inputs[0]))
    assert footprint._activation_bytes(step, meter) == known


def test_a_storage_counts_once_and_only_on_its_device() -> None:
    whole = torch.zeros(100)
    elsewhere = torch.zeros(9, device="meta")
    values = [whole, whole[:10], whole.view(10, 10), torch.zeros(3), elsewhere, "text", 5]
    assert footprint.stored_bytes(values, torch.device("cpu")) == 4 * 103


def test_cuda_says_what_was_reserved_and_how_often_it_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    retries = iter([4, 6])
    stands_in = SimpleNamespace(
        synchronize=lambda _: None,
        reset_peak_memory_stats=lambda _: None,
        memory_stats=lambda _: {"num_alloc_retries": next(retries)},
        max_memory_allocated=lambda _: 70,
        max_memory_reserved=lambda _: 90,
        memory_allocated=lambda _: 20,
    )
    monkeypatch.setattr(memory.torch, "cuda", stands_in)
    meter = memory.CudaMeter(torch.device("cuda", 0))
    meter.reset_peak()
    assert (meter.live(), meter.peak()) == (20, 70)
    assert meter.extra() == {"peak_reserved_bytes": 90, "allocator_retries": 2}


def test_metrics_survive_json(in_this_process: None) -> None:
    found = memory.measure(cell())
    assert json.loads(json.dumps(found)) == found
