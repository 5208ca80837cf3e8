"""The peaks of a step whose memory is known, on a meter that a test moves."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from bench.measure import footprint
from bench.measure.footprint import _inference, _training
from tests.scripted_meter import Scripted
from tests.small_run import a_run

CPU = torch.device("cpu")
BEFORE = 10_000  # bytes of the process before anything is built


class Step:
    """A model of 100 bytes whose steps take 500 and give back; the first leaves 70 for good."""

    def __init__(self, meter: Scripted) -> None:
        self.meter, self.n_steps = meter, 0
        meter.take(900)  # while it is built
        meter.take(-800)
        self.model = nn.Linear(3, 4)
        self.model.register_buffer("table", torch.zeros(50))
        self.model.weight.grad = torch.zeros(4, 3)
        self.optimiser = SimpleNamespace(
            state={self.model.weight: {"square": torch.zeros(4, 3), "step": 1}}
        )

    def __call__(self) -> None:
        self.n_steps += 1
        self.meter.take(500)
        self.meter.take(-500 if self.n_steps > 1 else -430)


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    meter = Scripted(BEFORE)
    for name in ("TrainingStep", "InferenceStep"):
        monkeypatch.setattr(footprint, name, lambda _: Step(meter))
    monkeypatch.setattr(footprint, "prepare", lambda _: SimpleNamespace(to=lambda device: None))
    monkeypatch.setattr(footprint, "_activation_bytes", lambda step, meter: 77)
    return meter


def test_a_training_peak_is_of_two_steps_over_what_was_there_before(meter: Scripted) -> None:
    found = _training(a_run(), CPU, meter)
    assert found == {
        "allocator_retries": 3,
        "peak_bytes": 100 + 70 + 500,  # model, optimiser's state, step; the building apart
        "parameter_bytes": 4 * (12 + 4 + 50),
        "gradient_bytes": 4 * 12,
        "optimiser_bytes": 4 * 12,
        "activation_bytes": 77,
    }


def test_an_inference_peak_is_of_one_pass_over_what_was_there_before(meter: Scripted) -> None:
    assert _inference(a_run(), CPU, meter) == {"infer_peak_bytes": 100 + 500}


def test_libraries_are_loaded_before_anything_is_measured(
    meter: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(footprint, "rehearse", lambda *_: meter.take(5000))
    found = footprint.footprint(a_run(), CPU, meter)
    assert (found["peak_bytes"], found["infer_peak_bytes"]) == (670, 600)
    assert found["memory_method"] == "scripted"
    assert meter.live() > BEFORE + 5000
