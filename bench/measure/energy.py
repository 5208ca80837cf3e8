"""Energy of a training step: joules per step and per token, from a counter of the hardware.

On CUDA NVML's total energy of the device, in millijoules since the driver was loaded (Volta and
later), https://docs.nvidia.com/deploy/nvml-api, nvmlDeviceGetTotalEnergyConsumption. On a CPU RAPL
as Linux shows it, https://docs.kernel.org/power/powercap/powercap.html: packages, and the memory
where it is counted apart; a package counts all that runs on it, of other programs too.

Nothing is subtracted: a machine that trains pays for what it draws when idle. `energy_idle_watts`
is the power of the seconds before, in which this process did nothing, for who wants to subtract it.
Where there is no counter, or it may not be read, energy is missing, and never computed from a
nominal power.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from bench.measure.metrics import Metrics
from bench.measure.resampling import interval, resampled_medians
from bench.measure.step import TrainingStep
from bench.measure.throughput import synchroniser
from bench.spec import Run
from bench.training import products
from bench.training.execute import device_of, prepare

BLOCK_S = 2.0
"""NVML's counter moves ten to fifty times a second: its edges are 5% of a block at most."""
N_BLOCKS = 5
IDLE_S = 2.0
WARM_UP_STEPS = 3
POWERCAP = Path("/sys/class/powercap")


class NoCounterError(Exception):
    """No counter of energy can be read here. The message says why."""


class Counter(Protocol):
    """Counts the joules that some part of the machine has drawn."""

    method: str

    def joules(self) -> float:
        """Joules since the counter was made."""


class Rapl:
    """The packages of this machine, and their memory, together.

    A counter wraps around at its zone's max_energy_range_uj, which takes a package minutes at the
    least: read it more often.

    Raises:
        NoCounterError: there is no RAPL, or only root may read it.
    """

    def __init__(self, root: Path = POWERCAP) -> None:
        found = [(zone, _zone_name(zone)) for zone in sorted(root.glob("intel-rapl:*"))]
        # psys is the whole platform, packages included; core and uncore are inside the package.
        kept = [(z, name) for z, name in found if name.startswith("package") or name == "dram"]
        if not kept:
            raise NoCounterError(f"Linux shows no RAPL packages in {root}")
        self.method = "rapl " + "+".join(sorted({name.partition("-")[0] for _, name in kept}))
        self._zones = [_Zone(zone) for zone, _ in kept]

    def joules(self) -> float:
        """Joules since the counter was made."""
        return sum(zone.microjoules() for zone in self._zones) / 1e6


class _Zone:
    def __init__(self, folder: Path) -> None:
        self._file = folder / "energy_uj"
        self._range = _number(folder / "max_energy_range_uj")
        self._last, self._total = _number(self._file), 0

    def microjoules(self) -> int:
        """Microjoules since the zone was first read."""
        now = _number(self._file)
        step = now - self._last
        self._total += step if step >= 0 else step + self._range
        self._last = now
        return self._total


class Nvml:
    """One CUDA device.

    Raises:
        NoCounterError: nvidia-ml-py is not installed, or the device does not count its energy.
    """

    method = "nvml"

    def __init__(self, uuid: str) -> None:
        """Find the device by its UUID: NVML does not know of CUDA_VISIBLE_DEVICES."""
        try:
            import pynvml
        except ImportError:
            raise NoCounterError(
                "nvidia-ml-py is not installed: pip install 'seqbench[gpu]'"
            ) from None
        self._nvml: Any = pynvml
        try:
            pynvml.nvmlInit()
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid.removeprefix('GPU-')}")
            self._first = self._millijoules()
        except pynvml.NVMLError as error:
            raise NoCounterError(f"NVML does not count this device's energy: {error}") from None

    def joules(self) -> float:
        """Joules since the counter was made."""
        return (self._millijoules() - self._first) / 1e3

    def _millijoules(self) -> int:
        return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))


@dataclass(frozen=True)
class Timer:
    """How time passes."""

    clock: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], None] = time.sleep


def measure(run: Run) -> Metrics:
    """Joules of a run's training step, or `energy_missing` with the reason."""
    device = device_of(run)
    try:
        counter = counter_of(device)
    except NoCounterError as error:
        return {"energy_missing": str(error)}
    products.settle(device)
    prepared = prepare(run).to(device)
    tokens = run.training.sequences(run.length) * prepared.task.tokens
    return energy_of(TrainingStep(prepared), tokens, counter, synchroniser(device))


def counter_of(device: torch.device) -> Counter:
    """What counts the energy of a device."""
    if device.type == "cuda":
        return Nvml(str(torch.cuda.get_device_properties(device).uuid))
    return Rapl()


def energy_of(
    step: Callable[[], None],
    tokens: int,
    counter: Counter,
    synchronise: Callable[[], None],
    timer: Timer | None = None,
) -> Metrics:
    """Joules of a step of so many tokens, the median of N_BLOCKS blocks and its interval."""
    timer = timer or Timer()
    steps = _steps_per_block(step, synchronise, timer)
    before, begun = counter.joules(), timer.clock()
    timer.sleep(IDLE_S)
    idle_watts = (counter.joules() - before) / (timer.clock() - begun)
    joules, watts = [], []
    for _ in range(N_BLOCKS):
        before, begun = counter.joules(), timer.clock()
        for _ in range(steps):
            step()
        synchronise()
        spent = counter.joules() - before
        if spent <= 0:
            return {"energy_missing": f"the counter stood still during {BLOCK_S:g} s of training"}
        joules.append(spent / steps)
        watts.append(spent / (timer.clock() - begun))
    low, high = interval(resampled_medians(np.array(joules)[:, None]))
    per_step = float(np.median(joules))
    return {
        "energy_train_joules_per_step": per_step,
        "energy_train_joules_per_step_low": low,
        "energy_train_joules_per_step_high": high,
        "energy_train_joules_per_token": per_step / tokens,
        "energy_train_joules_per_token_low": low / tokens,
        "energy_train_joules_per_token_high": high / tokens,
        "energy_train_watts": float(np.median(watts)),
        "energy_idle_watts": idle_watts,
        "energy_idle": "not subtracted",
        "energy_method": counter.method,
        "energy_blocks": N_BLOCKS,
    }


def _steps_per_block(
    step: Callable[[], None], synchronise: Callable[[], None], timer: Timer
) -> int:
    step()
    synchronise()
    begun = timer.clock()
    for _ in range(WARM_UP_STEPS):
        step()
    synchronise()
    return max(1, round(BLOCK_S * WARM_UP_STEPS / (timer.clock() - begun)))


def _zone_name(zone: Path) -> str:
    try:
        return (zone / "name").read_text().strip()
    except OSError:
        return ""


def _number(file: Path) -> int:
    try:
        return int(file.read_text())
    except PermissionError:
        raise NoCounterError(
            f"{file} may be read by root alone, as Linux has it since CVE-2020-8694"
        ) from None
    except (OSError, ValueError) as error:
        raise NoCounterError(f"{file} cannot be read: {error}") from None
