"""Energy is what a counter of the hardware says, or it is missing."""

import sys
import types
from pathlib import Path

import pytest

from bench.measure import energy
from bench.measure.energy import BLOCK_S, IDLE_S, NoCounterError, Nvml, Rapl, Timer, energy_of
from bench.spec import parse_run

RANGE_UJ = 1_000_000
ROUNDING = 1e-9


def zone(root: Path, name: str, label: str, microjoules: int) -> Path:
    folder = root / name
    folder.mkdir()
    (folder / "name").write_text(f"{label}\n")
    (folder / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    return folder / "energy_uj"


def test_packages_and_memory_count_and_nothing_counts_twice(tmp_path):
    counted = [
        zone(tmp_path, "intel-rapl:0", "package-0", 500),
        zone(tmp_path, "intel-rapl:1", "package-1", 0),
        zone(tmp_path, "intel-rapl:0:1", "dram", 0),
    ]
    others = [
        zone(tmp_path, "intel-rapl:0:0", "core", 0),
        zone(tmp_path, "intel-rapl:2", "psys", 0),
        zone(tmp_path, "intel-rapl-mmio:0", "package-0", 0),
    ]
    counter = Rapl(tmp_path)
    assert counter.method == "rapl dram+package"
    assert counter.joules() == 0
    for file in counted + others:
        file.write_text(f"{int(file.read_text()) + 200_000}\n")
    assert counter.joules() == pytest.approx(0.6)


def test_a_counter_that_wraps_around_goes_on(tmp_path):
    file = zone(tmp_path, "intel-rapl:0", "package-0", RANGE_UJ - 100_000)
    counter = Rapl(tmp_path)
    for now, expected in ((200_000, 0.3), (900_000, 1.0), (100_000, 1.2)):
        file.write_text(f"{now}\n")
        assert counter.joules() == pytest.approx(expected)


def test_no_counter_is_a_reason(tmp_path, monkeypatch):
    with pytest.raises(NoCounterError, match="no RAPL"):
        Rapl(tmp_path)
    zone(tmp_path, "intel-rapl:0", "package-0", 0)

    def denied(file, *arguments, **options):
        raise PermissionError(13, "Permission denied")

    read = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda f, **o: denied(f) if f.name == "energy_uj" else read(f, **o)
    )
    with pytest.raises(NoCounterError, match="energy_uj may be read by root alone"):
        Rapl(tmp_path)


def fake_nvml(monkeypatch, readings, uuid="GPU-1234"):
    """A pynvml whose device of one uuid counts as told."""

    class NVMLError(Exception):
        pass

    def handle(asked):
        if asked != uuid:
            raise NVMLError("Not Found")
        return "handle"

    def energy_mj(given):
        assert given == "handle"
        value = readings.pop(0)
        if value is None:
            raise NVMLError("Not Supported")
        return value

    module = types.ModuleType("pynvml")
    module.NVMLError = NVMLError
    module.nvmlInit = lambda: None
    module.nvmlDeviceGetHandleByUUID = handle
    module.nvmlDeviceGetTotalEnergyConsumption = energy_mj
    monkeypatch.setitem(sys.modules, "pynvml", module)


def test_nvml_counts_millijoules_of_the_device_with_this_uuid(monkeypatch):
    fake_nvml(monkeypatch, [5_000, 5_250, 7_000])
    counter = Nvml("1234")
    assert [counter.joules(), counter.joules()] == [0.25, 2.0]
    with pytest.raises(NoCounterError, match="Not Found"):
        Nvml("5678")


def test_a_device_that_does_not_count_is_a_reason(monkeypatch):
    fake_nvml(monkeypatch, [None])
    with pytest.raises(NoCounterError, match="Not Supported"):
        Nvml("1234")
    monkeypatch.setitem(sys.modules, "pynvml", None)  # as if it were not installed
    with pytest.raises(NoCounterError, match=r"seqbench\[gpu\]"):
        Nvml("1234")


class Machine:
    """Draws `idle` watts always, and `joules` more for each step of `seconds`."""

    method = "synthetic"

    def __init__(self, idle: float, joules: float, seconds: float) -> None:
        self.idle, self.extra, self.seconds = idle, joules, seconds
        self.now = self.drawn = 0.0

    def joules(self) -> float:
        return self.drawn

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.drawn += self.idle * seconds

    def step(self) -> None:
        self.sleep(self.seconds)
        self.drawn += self.extra

    def measured(self, tokens: int = 100):
        timer = Timer(lambda: self.now, self.sleep)
        return energy_of(self.step, tokens, self, lambda: None, timer)


def test_what_a_device_has_still_to_do_is_waited_for():
    machine, queued = Machine(idle=10.0, joules=3.0, seconds=0.1), []

    def synchronise() -> None:
        while queued:
            queued.pop()
            machine.step()

    timer = Timer(lambda: machine.now, machine.sleep)
    found = energy_of(lambda: queued.append("step"), 100, machine, synchronise, timer)
    assert found["energy_train_joules_per_step"] == pytest.approx(4.0, abs=ROUNDING)
    assert found["energy_train_watts"] == pytest.approx(40.0)
    # Idle seconds, one first step, three to warm up, and five blocks of 2 s.
    assert machine.now == pytest.approx(IDLE_S + 0.4 + 5 * BLOCK_S)


def test_a_step_of_known_energy_is_measured_as_that_and_idle_power_is_told_apart():
    machine = Machine(idle=10.0, joules=3.0, seconds=0.1)
    found = machine.measured()
    assert found["energy_train_joules_per_step"] == pytest.approx(4.0, abs=ROUNDING)
    assert found["energy_train_joules_per_token"] == pytest.approx(0.04, abs=ROUNDING)
    assert found["energy_train_watts"] == pytest.approx(40.0)
    assert found["energy_idle_watts"] == pytest.approx(10.0)
    assert found["energy_idle"] == "not subtracted"
    blocks = energy.N_BLOCKS * BLOCK_S
    assert machine.now == pytest.approx(IDLE_S + blocks + 0.1 * (1 + energy.WARM_UP_STEPS))


def test_blocks_that_differ_have_an_interval():
    machine = Machine(idle=0.0, joules=1.0, seconds=0.5)
    steps = 0

    def step():
        nonlocal steps
        steps += 1
        machine.now += machine.seconds
        machine.drawn += 1.0 + (steps - 1) // 4 % 3  # blocks of 4 steps at 1, 2 or 3 joules

    found = energy_of(step, 1, machine, lambda: None, Timer(lambda: machine.now, machine.sleep))
    low, high = (found[f"energy_train_joules_per_step_{end}"] for end in ("low", "high"))
    assert 1.0 <= low < found["energy_train_joules_per_step"] < high <= 3.0


def test_a_counter_that_stands_still_is_no_number():
    found = Machine(idle=0.0, joules=0.0, seconds=0.1).measured()
    assert list(found) == ["energy_missing"]


def test_a_run_counts_its_tokens_or_says_why_not(monkeypatch, tmp_path):
    run = parse_run(
        {
            "architecture": "gru",
            "task": "parity",
            "length": 16,
            "width": 16,
            "training": {"steps": 0, "batch_size": 4},
            "measure": {"instruments": ["throughput"]},
            "resources": {"accelerator": "cpu"},
        }
    )
    monkeypatch.setattr(energy.Rapl.__init__, "__defaults__", (tmp_path,))
    assert energy.measure(run) == {"energy_missing": f"Linux shows no RAPL packages in {tmp_path}"}
    monkeypatch.setattr(energy, "BLOCK_S", 0.01)
    monkeypatch.setattr(energy, "IDLE_S", 0.01)
    counter = Machine(idle=0.0, joules=0.0, seconds=0.0)
    step = energy.TrainingStep.__call__

    def counted(self):
        step(self)
        counter.drawn += 1.0

    monkeypatch.setattr(energy.TrainingStep, "__call__", counted)
    monkeypatch.setattr(energy, "counter_of", lambda device: counter)
    found = energy.measure(run)
    assert found["energy_train_joules_per_token"] == pytest.approx(1 / (4 * 16))
