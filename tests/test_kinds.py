"""Every kind of task through the model and the trainer: pairs, written answers, carried state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import tasks
from architectures import ARCHITECTURES
from bench.spec import Run, parse_run
from bench.training.data import CARRIED_EXAMPLES, CarriedOrder
from bench.training.execute import execute, measured_state_bytes, prepare
from bench.training.model import PairModel, WritingModel
from bench.training.truncated import scored_answers
from tasks.scoring import ByteModelling, Classification, Writing
from tasks.task import UNSCORED, Batch, GeneratedTask, Kind, Metric, Tokens

EXACT = 1e-12  # float64, the same sums in another order


@dataclass(frozen=True, kw_only=True)
class SameSum(Classification, GeneratedTask):
    """Whether two strings have equally many ones modulo 2."""

    kind: ClassVar[Kind] = "pair"
    length: int = 5

    @property
    def inputs(self) -> Tokens:
        return Tokens(2)

    @property
    def n_outputs(self) -> int:
        return 2

    def sample(self, rng: torch.Generator, batch_size: int) -> Batch:
        bits = torch.randint(2, (batch_size, 2, self.length), generator=rng)
        lengths = torch.randint(1, self.length + 1, (batch_size, 2), generator=rng)
        real = torch.arange(self.length) < lengths.unsqueeze(2)
        first, second = (bits * real).sum(2).unbind(1)
        return Batch(inputs=bits, targets=(first + second) % 2, lengths=lengths)


@dataclass(frozen=True, kw_only=True)
class Counting(Writing, GeneratedTask):
    """Write as many ones as were read, then the end."""

    length: int = 4

    @property
    def inputs(self) -> Tokens:
        return Tokens(2)

    @property
    def n_outputs(self) -> int:
        return 2

    @property
    def end_symbol(self) -> int:
        return 0

    def sample(self, rng: torch.Generator, batch_size: int) -> Batch:
        bits = torch.randint(2, (batch_size, self.length), generator=rng)
        n_ones = bits.sum(1, keepdim=True)
        place = torch.arange(self.length + 1)
        answer = (place < n_ones).long().masked_fill(place > n_ones, UNSCORED)
        return Batch(inputs=bits, targets=answer)


@dataclass(frozen=True, kw_only=True)
class Alphabet(ByteModelling, GeneratedTask):
    """One text of which example i is the i-th piece: 0 1 2 3 0 1 2 3 ..."""

    kind: ClassVar[Kind] = "per_step"
    causal_only: ClassVar[bool] = True
    contiguous: ClassVar[bool] = True
    length: int = 6
    n_test: int = 21

    @property
    def inputs(self) -> Tokens:
        return Tokens(4)

    @property
    def n_outputs(self) -> int:
        return 4

    def examples(self, split: str, seed: int, indices: Tensor) -> Batch:
        position = indices.unsqueeze(1) * self.length + torch.arange(self.length + 1)
        text = (position * (position // 4 + 1)) % 4
        return Batch(inputs=text[:, :-1], targets=text[:, 1:])


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, task in [("same_sum", SameSum), ("counting", Counting), ("alphabet", Alphabet)]:
        monkeypatch.setitem(tasks.TASKS, name, task)


def a_run(task: str, architecture: object = "gru", **changes: Any) -> Run:
    training = {"steps": 2, "batch_size": 4} | changes.pop("training", {})
    length = {"same_sum": 5, "counting": 4, "alphabet": 6, "reverse_string": 6}[task]
    few = {"name": task, "n_val": 8, "n_test": 21}
    given = {"architecture": architecture, "task": few, "length": length, "width": 8}
    return parse_run({**given, "training": training, **changes})


def metrics_of(run: Run) -> Mapping[str, object]:
    row = execute(run, "test", {})
    assert row.status == "ok", (row.reason, row.log_tail)
    return row.metrics


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("task", ["same_sum", "counting"])
def test_every_architecture_trains_on_pairs_and_on_answers_by_a_sequence(
    task: str, architecture: str
) -> None:
    multiple = ARCHITECTURES[architecture].width_multiple()
    run = a_run(task, architecture, width=-(-8 // multiple) * multiple)
    row = execute(run, "test", {})
    decodes = prepare_body_decodes(architecture)
    if task == "counting" and not decodes:
        assert row.status == "unsupported"
        assert "encoder of an encoder_decoder" in row.reason
        return
    assert row.status == "ok", (row.reason, row.log_tail)


def prepare_body_decodes(architecture: str) -> bool:
    cls = ARCHITECTURES[architecture]
    with torch.device("meta"):
        return cls(cls.width_multiple() * 4).decodes


def test_a_pair_is_read_by_one_body_and_each_alone() -> None:
    prepared = prepare(a_run("same_sum"))
    model = prepared.model.double()
    assert isinstance(model, PairModel)
    batch = prepared.batch()
    outputs = model.answer(batch)
    for row in range(len(batch)):
        found = []
        for document in range(2):
            n_real = int(batch.lengths[row, document])  # type: ignore[index]
            y, _ = model.body(model.embedding(batch.inputs[row : row + 1, document, :n_real]))
            found.append(y[0, -1])
        a, b = found
        expected = model.head(torch.cat([a, b, a * b, a - b]))
        torch.testing.assert_close(outputs[row], expected, rtol=EXACT, atol=EXACT)


def test_the_answer_is_read_after_its_source_as_one_sequence() -> None:
    """Source of its own length, start symbol, answer: the same as one call on them side by side."""
    prepared = prepare(a_run("counting"))
    model = prepared.model.double()
    assert isinstance(model, WritingModel)
    batch = prepared.batch()
    lengths = torch.tensor([4, 1, 3, 2])
    outputs = model.answer(Batch(batch.inputs, batch.targets, lengths))
    for row, n_real in enumerate(lengths.tolist()):
        answer = batch.targets[row][batch.targets[row] != UNSCORED]
        written = torch.cat([torch.tensor([2]), answer[:-1]])
        x = torch.cat(
            [model.embedding(batch.inputs[row, :n_real]), model.written_embedding(written)]
        )
        y, _ = model.body(x.unsqueeze(0))
        expected = model.head(y[0, n_real:])
        torch.testing.assert_close(outputs[row, : len(answer)], expected, rtol=EXACT, atol=EXACT)


def test_what_is_written_is_the_likeliest_symbol_given_what_was_written() -> None:
    prepared = prepare(a_run("counting"))
    model = prepared.model.double().eval()
    assert isinstance(model, WritingModel)
    batch = prepared.batch()
    model.end_symbol = None
    written = model.write(batch, 5)
    again = model.answer(Batch(batch.inputs, written, None)).argmax(-1)
    assert torch.equal(written, again)
    model.end_symbol = 0
    stopped = model.write(batch, 5)
    for row, whole in zip(stopped.tolist(), written.tolist(), strict=True):
        end = whole.index(0) + 1 if 0 in whole else 5
        assert row == whole[:end] + [UNSCORED] * (5 - end)


def test_what_was_written_is_scored_and_not_what_was_given() -> None:
    task = Counting()
    batch = Batch(torch.zeros(2, 4), torch.tensor([[1, 0, -100], [1, 1, 0]]))
    written = torch.tensor([[1, 0, -100], [1, 0, -100]])
    counts = task.score_written(written, batch)
    assert [float(x) for x in counts["accuracy"]] == [3.0, 5.0]
    assert [float(x) for x in counts["exact"]] == [1.0, 2.0]


def test_a_model_that_learned_to_count_writes_it() -> None:
    run = a_run("counting", training={"steps": 200, "batch_size": 16, "learning_rate": 1e-2})
    assert metrics_of(run)["test_exact"] > 0.95  # type: ignore[operator]


def test_windows_cannot_be_cut_from_pairs_and_answers() -> None:
    for task in ("same_sum", "counting"):
        row = execute(a_run(task, training={"tbptt_window": 2}), "test", {})
        assert (row.status, "reads more than one sequence" in row.reason) == ("unsupported", True)


def test_an_encoded_state_is_what_a_sequence_costs() -> None:
    assert measured_state_bytes(prepare(a_run("counting"))) == 2 * 8 * 4  # two layers, float32


# --- carried state


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("size", [1, CARRIED_EXAMPLES, 21, 64, 67])
def test_carried_order_reads_every_example_once_and_in_order(size: int, world_size: int) -> None:
    seen: list[int] = []
    for rank in range(world_size):
        order = CarriedOrder(size, 3, rank, world_size)
        before = None
        for batch, begins in zip(order, order.begins, strict=True):
            assert len(batch) <= 3
            if begins:
                assert all(index % CARRIED_EXAMPLES == 0 for index in batch.tolist())
            else:
                assert before is not None
                assert torch.equal(batch, before + 1)
            before = batch
            seen += batch.tolist()
    assert sorted(seen) == list(range(size))


def test_a_contiguous_split_is_tested_with_the_state_carried_from_one_to_the_next() -> None:
    run = a_run("alphabet", training={"steps": 3})
    prepared = prepare(run)
    row = execute(run, "test", {})
    carried = row.metrics["test_bits_per_byte_carried"]
    assert carried != row.metrics["test_bits_per_byte"]
    # By hand: one stream after the other, with the weights that the same run ends with.
    from bench.training.fit import fit

    fit(run, prepared.task, prepared.model)
    total = count = 0.0
    state = None
    with torch.no_grad():
        for index in range(21):
            state = None if index % CARRIED_EXAMPLES == 0 else state
            batch = prepared.task.examples("test", 0, torch.tensor([index]))
            outputs, state = prepared.model(batch.inputs, state)
            bits, n = prepared.task.score(outputs, batch.targets)["bits_per_byte"]
            total, count = total + float(bits), count + float(n)
    assert carried == pytest.approx(total / count, rel=1e-5)  # float32, other batches


def test_only_contiguous_tasks_and_causal_bodies_are_carried() -> None:
    assert not any("carried" in name for name in metrics_of(a_run("counting")))


# --- other lengths


def test_the_test_split_is_scored_at_other_lengths_too() -> None:
    run = a_run("reverse_string", test_lengths=[3, 12, 24])
    row = execute(run, "test", {})
    assert row.status == "ok"
    points = row.curves["test_accuracy_by_length"]
    assert [length for length, _ in points] == [3, 12, 24]
    for length, value in points:
        assert row.metrics[f"test_accuracy_at_{int(length)}"] == value
    beyond = [value for length, value in points if length > 6]
    assert row.metrics["test_score_beyond"] == pytest.approx(sum(beyond) / 2)  # type: ignore[arg-type]
    plain = execute(a_run("reverse_string"), "test", {})
    assert plain.metrics["test_accuracy"] == row.metrics["test_accuracy"]


def test_a_length_that_a_body_cannot_do_is_missing_with_its_reason() -> None:
    short = {"name": "hf", "config": {"max_position_embeddings": 16}}
    row = execute(a_run("reverse_string", short, test_lengths=[7, 24]), "test", {})
    assert row.status == "ok"
    assert row.curves["test_accuracy_by_length"][1] == (24, None)
    assert "16 positions" in str(row.metrics["missing_at_24"])
    assert "test_score_beyond" not in row.metrics


@pytest.mark.parametrize(
    ("name", "options"), [("parity", {}), ("stack_manipulation", {}), ("dyck", {"kinds": 2})]
)
def test_a_run_trains_on_random_lengths_and_tests_at_each(
    name: str, options: dict[str, object]
) -> None:
    task = {"name": name, "shortest": 2, "n_val": 8, "n_test": 16, **options}
    training = {"steps": 2, "batch_size": 4}
    given = {"architecture": "gru", "task": task, "length": 6, "test_lengths": [3, 9]}
    row = execute(parse_run({**given, "width": 8, "training": training}), "test", {})
    assert row.status == "ok", (row.reason, row.log_tail)
    assert row.metrics["test_score_beyond"] is not None


# --- metrics of several sums


def test_a_metric_of_several_sums_is_finished_once() -> None:
    from bench.training.scores import Scores
    from tasks.task import Count

    metric = Metric("ratio", "", True, 0.0, finish=lambda sums, count: sums[0] / sums[1] + count)
    scores = Scores([metric])
    scores.add({"ratio": Count(torch.tensor([1.0, 2.0]), torch.tensor(1.0))})
    scores.add({"ratio": Count(torch.tensor([3.0, 6.0]), torch.tensor(2.0))})
    assert scores.reduce(lambda parts: parts) == {"ratio": 0.5 + 3.0}


def test_unscored_values_are_not_counted() -> None:
    values = torch.tensor([[[1.0, float("nan")], [2.0, 3.0]]])
    assert scored_answers(Batch(torch.zeros(1, 2, 1), values)) == 3.0
