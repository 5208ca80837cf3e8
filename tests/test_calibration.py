"""What a machine can do at most, and the share of it that a body uses, of known numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bench.measure import calibrate, session, utilisation
from bench.measure.calibrate import Calibration
from bench.spec import parse_run
from bench.training.execute import prepare

CPU = torch.device("cpu")
VALUES = {
    "matmul_float32_flops_per_s": 2e9,
    "matmul_float64_flops_per_s": 1e9,
    "copy_bytes_per_s": 5e6,
    "triad_bytes_per_s": 8e6,
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of calibrations."""
    monkeypatch.setattr(calibrate, "cache_folder", lambda: tmp_path)
    return tmp_path


@pytest.fixture
def quick(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That cache, and sizes that take no time."""
    monkeypatch.setattr(calibrate, "SIZES", {"cpu": (16, 32)})
    monkeypatch.setattr(calibrate, "ARRAY_BYTES", {"cpu": 1 << 14})
    monkeypatch.setattr(calibrate, "SECONDS", 0.001)
    monkeypatch.setattr("bench.measure.throughput.BLOCK_S", 0.0005)
    return cache


def a_run(architecture: str = "lstm", precision: str = "32-true"):
    return parse_run(
        {
            "architecture": architecture,
            "task": "parity",
            "length": 8,
            "width": 16,
            "training": {"steps": 0, "batch_size": 2, "precision": precision},
            "measure": {
                "instruments": ["throughput"],
                "seconds_per_cell": 0.01,
                "min_rounds": 3,
            },
        }
    )


def test_a_calibration_is_kept_and_holds_for_this_machine_and_these_threads(quick):
    assert calibrate.remembered(CPU, 1) is None
    before = torch.get_num_threads()
    found = calibrate.calibrate(CPU, 1)
    assert torch.get_num_threads() == before
    assert calibrate.remembered(CPU, 1) == found
    assert calibrate.remembered(CPU, 2) is None
    (file,) = quick.glob("calibration-*.json")
    assert json.loads(file.read_text())["id"] == found.id
    assert found.id in calibrate.as_text(found)
    for name in ("float32", "float64"):
        assert (found.matmul_flops_per_s(name) or 0) > 0
    assert found.values["noise_floor"] >= 1.0
    assert 0 < found.values["timer_resolution_s"] < 1e-3


def test_another_calibration_has_another_id():
    one = Calibration({"host": "a"}, VALUES)
    assert one.id != Calibration({"host": "b"}, VALUES).id
    assert one.id != Calibration({"host": "a"}, {**VALUES, "copy_bytes_per_s": 4e6}).id
    assert one.bytes_per_s == 8e6


@pytest.mark.parametrize("text", ["", "{", "[]", '{"machine": {}, "values": {"a": 1}}'])
def test_a_file_that_says_nothing_is_no_calibration(cache, text):
    calibrate.file_of(calibrate.machine_of(CPU, 1)).write_text(text)
    assert calibrate.remembered(CPU, 1) is None


def test_the_resolution_of_a_clock_is_its_smallest_step():
    ticks = iter(range(10**9))
    assert calibrate.timer_resolution_s(lambda: next(ticks) // 7 * 0.25) == 0.25


def test_products_are_counted_as_two_operations_for_each_of_n_cubed(monkeypatch):
    class Ticking:
        def seconds(self, step: object, n_steps: int) -> float:
            return 0.5

    monkeypatch.setattr(calibrate, "SIZES", {"cpu": (100,)})
    monkeypatch.setattr(calibrate, "SECONDS", 0.001)
    found = calibrate._products_per_s(CPU, torch.float32, Ticking())
    assert found == pytest.approx(2 * 100**3 / 0.5)
    memory = calibrate._memory(CPU, Ticking())
    n_bytes = calibrate.ARRAY_BYTES["cpu"]
    assert memory["copy_bytes_per_s"] == pytest.approx(2 * n_bytes / 0.5)
    assert memory["triad_bytes_per_s"] == pytest.approx(3 * n_bytes / 0.5)


def used(architecture: str, precision: str, operations: list[str], known: bool = True):
    run = a_run(architecture, precision)
    speeds = {"train_tokens_per_s": 1000.0, "infer_tokens_per_s": 5000.0}
    body = prepare(run).model.body
    calibration = Calibration({}, VALUES) if known else None
    found = utilisation.metrics(
        speeds, run=run, body=body, operations=operations, calibration=calibration
    )
    return found, body.flops_per_token(8)


def test_utilisation_is_operations_by_time_by_the_measured_peak_of_the_type():
    found, flops = used("lstm", "32-true", ["recurrence"])
    assert found["infer_mfu"] == pytest.approx(flops * 5000 / 2e9)
    assert found["train_mfu"] == pytest.approx(3 * flops * 1000 / 2e9)
    assert found["calibration_flops_per_s"] == 2e9
    assert found["calibration"] == Calibration({}, VALUES).id
    assert "infer_bandwidth_share" not in found
    double, _ = used("lstm", "64-true", ["recurrence"])
    assert double["infer_mfu"] == pytest.approx(2 * float(found["infer_mfu"] or 0))


def test_scans_are_held_against_memory_by_the_least_that_they_move():
    found, _ = used("mingru", "32-true", ["linear_scan"])
    assert found["infer_bandwidth_share"] == pytest.approx(2 * 16 * 4 * 5000 / 8e6)
    assert found["train_bandwidth_share"] == pytest.approx(4 * 16 * 4 * 1000 / 8e6)
    double, _ = used("mingru", "64-true", ["linear_scan"])
    assert double["infer_bandwidth_share"] == pytest.approx(2 * 16 * 8 * 5000 / 8e6)


def test_what_the_machine_was_not_tried_with_is_missing_with_a_reason():
    found, _ = used("lstm", "bf16-mixed", ["recurrence"])
    assert "train_mfu" not in found
    assert "bfloat16" in str(found["mfu_missing"])
    nothing, _ = used("lstm", "32-true", [], known=False)
    assert list(nothing) == ["mfu_missing"]
    assert "bench doctor --calibrate" in str(nothing["mfu_missing"])


def test_rows_hold_the_calibration_or_say_how_to_get_one(quick):
    (without,) = session.measure([a_run()], "study", {}, {})
    assert "bench doctor --calibrate" in str(without.metrics["mfu_missing"])
    found = calibrate.calibrate(CPU, 1)
    (row,) = session.measure([a_run()], "study", {}, {})
    assert row.metrics["calibration"] == found.id
    assert row.metrics["train_mfu"] == pytest.approx(
        3
        * row.metrics["flops_per_token"]
        * row.metrics["train_tokens_per_s"]
        / found.matmul_flops_per_s("float32")
    )
    assert "mfu_missing" not in row.metrics


def test_every_scan_that_is_named_is_an_operation_of_the_kernels():
    files = Path(utilisation.__file__).parents[2] / "architectures" / "kernels"
    assert all((files / f"{name}.py").exists() for name in utilisation.SCANS)
