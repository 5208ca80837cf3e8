"""Rounds on a clock that tells any time: budgets, looks, both clocks of a device, the A/A pair."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bench.measure import session, throughput
from bench.measure.step import InferenceStep, TrainingStep
from bench.measure.throughput import CudaClock, Samples, Timed, WallClock, interleave, summarise
from bench.spec import parse_run
from bench.training.execute import prepare

CUDA = torch.device("cuda", 0)


class Told:
    """Blocks that take as long as they are told to, by cell; the last for ever."""

    def __init__(self, monkeypatch, **seconds):
        self.now, self.order, self.seconds = 0.0, [], {key: list(v) for key, v in seconds.items()}
        monkeypatch.setattr(throughput, "time", SimpleNamespace(perf_counter=lambda: self.now))
        self.cells = {key: Timed(lambda key=key: key, Samples(1.0, 1)) for key in seconds}

    def __call__(self, step, n_steps):
        name = step()
        self.order.append(name)
        shown = self.seconds[name]
        taken = shown.pop(0) if len(shown) > 1 else shown[0]
        self.now += taken * n_steps
        return taken

    def interleaved(self, seconds_per_cell, min_rounds):
        clock = SimpleNamespace(seconds=self)
        interleave(list(self.cells.values()), clock, seconds_per_cell, min_rounds)
        return [len(cell.samples.seconds) for cell in self.cells.values()]


@pytest.fixture(autouse=True)
def _undisturbed(monkeypatch):
    monkeypatch.setattr(throughput, "_waited_for_cpu_s", lambda: 0.0)


def test_the_budget_is_that_of_all_cells_and_rounds_are_whole(monkeypatch):
    noisy = [1.0, 1.5] * 500
    told = Told(monkeypatch, a=noisy, b=noisy)
    # A pair of rounds takes 5 s, and both cells together have 40 s.
    assert told.interleaved(20.0, 3) == [16, 16]
    assert told.order == ["a", "b"] * 16


def test_rounds_go_on_until_every_cell_is_precise_and_no_longer(monkeypatch):
    told = Told(monkeypatch, quiet=[1.0], wild=[1.0, 1.5] * 3 + [1.0])
    counts = told.interleaved(10_000.0, 5)
    assert counts[0] == counts[1]
    assert 7 <= counts[0] < 60  # wild until the fast ones are most of its blocks
    assert throughput.is_precise(told.cells["wild"].samples)


def test_an_early_end_has_its_rounds_too(monkeypatch):
    assert Told(monkeypatch, a=[100.0]).interleaved(1.0, 7) == [7]


def test_a_wait_is_weighed_against_its_whole_block(monkeypatch):
    for wait_s, n_rejected in ((0.21, 1), (0.19, 0)):  # 2% of ten steps of a second
        waits = iter([0.0, wait_s])
        monkeypatch.setattr(
            throughput, "_waited_for_cpu_s", lambda waits=waits, last=wait_s: next(waits, last)
        )
        told = Told(monkeypatch, a=[1.0])
        told.cells["a"].samples.steps_per_block = 10
        told.interleaved(40.0, 3)
        assert len(told.cells["a"].samples.rejected) == n_rejected


def test_waiting_is_that_of_all_threads(monkeypatch, tmp_path):
    for thread, text in (("1", "9000000000 2000000000 5"), ("2", "9000000000 500000000 5")):
        (tmp_path / thread).mkdir()
        (tmp_path / thread / "schedstat").write_text(text)
    (tmp_path / "3").mkdir()
    (tmp_path / "3" / "schedstat").write_text("")  # it has ended
    monkeypatch.undo()
    monkeypatch.setattr(throughput, "Path", lambda place: tmp_path / Path(place).name / "..")
    (tmp_path / "task").mkdir()
    assert throughput._waited_for_cpu_s() == pytest.approx(2.5)


def test_an_interval_is_ninety_five_percent_of_the_median():
    values = [*range(1, 42), 10_000]
    summary = summarise(Samples(1.0, 1, seconds=[float(value) for value in values]))
    # Ranks 15 to 28 of 42, by the binomial distribution; a half interval would be 5 wide.
    assert 13 <= summary.low <= 17
    assert 26 <= summary.high <= 30
    assert (summary.p50, summary.rounds) == (21.5, 42)
    assert summary.p99 > 41 > summary.p90 > 36
    low = Samples(1.0, 1, seconds=[1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.01, 0.1])
    assert summarise(low).outlying == 1


def fake_cuda(monkeypatch):
    """A CUDA whose event of a step is a millisecond later, and what was asked of it."""
    asked = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            asked.append("record")

        def synchronize(self):
            asked.append("wait for the event")

        def elapsed_time(self, other):
            return 8.0

    module = SimpleNamespace(
        Event=Event, device=lambda _: nullcontext(), synchronize=lambda *_: asked.append("idle")
    )
    monkeypatch.setattr(throughput.torch, "cuda", module)
    return asked


def test_a_device_is_idle_before_and_done_after_and_its_events_are_milliseconds(monkeypatch):
    asked = fake_cuda(monkeypatch)
    seconds = CudaClock(CUDA).seconds(lambda: asked.append("step"), 4)
    assert seconds == pytest.approx(2e-3)
    assert asked == ["idle", "record", *["step"] * 4, "record", "wait for the event"]


def test_each_device_has_its_clock(monkeypatch):
    asked = fake_cuda(monkeypatch)
    assert isinstance(throughput.clock_of(CUDA), CudaClock)
    assert isinstance(throughput.clock_of(torch.device("cpu")), WallClock)
    throughput.synchroniser(torch.device("cpu"))()
    assert asked == []
    throughput.synchroniser(CUDA)()
    assert asked == ["idle"]


def a_run(architecture="gru", task="parity", **training):
    return parse_run(
        {
            "architecture": architecture,
            "task": task,
            "length": 16,
            "width": 16,
            "training": {"steps": 0, "batch_size": 4, **training},
            "measure": {"instruments": ["throughput"], "seconds_per_cell": 0.01, "min_rounds": 3},
            "resources": {"accelerator": "cpu"},
        }
    )


@pytest.mark.parametrize("again_s", [1.5, 1 / 1.5])
def test_the_noise_floor_is_one_cell_against_itself_timed_as_two(monkeypatch, again_s):
    def fill(cells, clock, seconds, min_rounds):
        *others, again, reference = cells
        reference.samples.seconds[:] = [0.002] * 5
        assert again.step is others[0].step
        assert again.samples is not others[0].samples
        for index, cell in enumerate(others):
            training = index % 2 == 0
            cell.samples.seconds[:] = [1.0] * 5 if training else [0.25, 0.1, 0.4, 0.25, 0.25]
            cell.samples.rejected[:] = [9.0] * (2 if training else 3)
        again.samples.seconds[:] = [again_s] * 5

    monkeypatch.setattr(session, "interleave", fill)
    for row in session.measure([a_run("gru"), a_run("rnn")], "study", {}, {}):
        found = row.metrics
        assert found["noise_floor"] == pytest.approx(1.5)
        assert found["reference_ms"] == pytest.approx(2.0)
        assert found["train_tokens_per_s"] == pytest.approx(4 * 16)
        assert found["infer_tokens_per_s"] == pytest.approx(4 * 16 / 0.25)
        assert found["infer_tokens_per_s_low"] < found["infer_tokens_per_s_high"]
        assert (found["rounds"], found["rounds_rejected"], found["infer_rounds_rejected"]) == (
            5,
            2,
            3,
        )
        assert found["interval_met"] == 0  # that of inference is wide


def test_tokens_are_those_that_a_model_reads_and_writes_for_an_example():
    run = a_run(task="reverse_string")
    (row,) = session.measure([run], "study", {}, {})
    per_example = prepare(run).task.tokens
    assert per_example != run.length
    assert row.metrics["tokens_per_batch"] == 4 * per_example


def test_a_training_step_is_clipped_lowered_and_begins_anew(monkeypatch):
    prepared = prepare(a_run(optimiser="sgd", learning_rate=1.0, weight_decay=0.0, clip_norm=1e-3))
    step, lowered = TrainingStep(prepared), []
    before = [one.detach().clone() for one in step.model.parameters()]
    step()
    moved = [now - then for now, then in zip(step.model.parameters(), before, strict=True)]
    assert torch.cat([one.flatten() for one in moved]).norm().item() == pytest.approx(
        1e-3, rel=0.01
    )
    step.optimiser.step = lambda: None
    step.training = step.training.model_copy(update={"clip_norm": None})
    step()
    first = [one.grad.clone() for one in step.model.parameters()]
    step()
    for one, gradient in zip(step.model.parameters(), first, strict=True):
        torch.testing.assert_close(one.grad, gradient)
    mixed = prepare(a_run(precision="bf16-mixed"))
    for made in (TrainingStep(mixed), InferenceStep(mixed)):
        hook = made.model.register_forward_pre_hook(
            lambda *_: lowered.append((torch.is_autocast_enabled("cpu"), torch.is_grad_enabled()))
        )
        made()
        hook.remove()
    assert lowered == [(True, True), (True, False)]
