"""What else holds for tasks that label words and bytes and for those that write answers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bench.spec import parse_run
from bench.training.execute import execute
from tasks.data.token_classes import CLASSES
from tasks.scoring import Writing
from tasks.task import UNSCORED, Batch, Split, Task, Tokens, generator
from tests.cases_labelling import EXAMPLES

LABELLING = [name for name, task in EXAMPLES.items() if task.kind == "per_step"]
WRITING = [name for name, task in EXAMPLES.items() if task.kind == "seq2seq"]
STANDARD_ERRORS = 3.0
COUNTED_ALIKE = 1e-5  # relative: float32 sums of the same terms in another order


pytestmark = pytest.mark.usefixtures("small_data_sets")


def take(task: Task, split: Split, n: int) -> Batch:
    size = task.size(split)
    return task.examples(split, 0, torch.arange(n if size is None else min(n, size)))


def rows(batch: Batch) -> list[bytes]:
    assert batch.inputs.is_contiguous()
    lengths = [batch.inputs.shape[1]] * len(batch) if batch.lengths is None else batch.lengths
    return [
        x.numpy().tobytes() + y.numpy().tobytes() + str(int(n)).encode()
        for x, y, n in zip(batch.inputs, batch.targets, lengths, strict=True)
    ]


def answers(task: Task, batch: Batch, seed: int) -> Tensor:
    """What an untrained network of seeded weights makes of a batch."""
    assert isinstance(task.inputs, Tokens)
    rng = generator("untrained", seed)
    x = torch.randn(task.inputs.vocabulary, 16, generator=rng)[batch.inputs].cumsum(1)
    hidden = torch.tanh(x / x.std())
    return hidden @ torch.randn(16, task.n_outputs, generator=rng)


def one_hot(task: Task, labels: Tensor) -> Tensor:
    return 100 * torch.nn.functional.one_hot(labels.clamp(min=0), task.n_outputs).float()


@pytest.mark.parametrize("name", WRITING)
def test_answers_end_in_the_end_symbol(name: str) -> None:
    task = EXAMPLES[name]
    batch = take(task, "train", 50)
    for row in batch.targets.tolist():
        answer = [symbol for symbol in row if symbol != UNSCORED]
        assert row == answer + [UNSCORED] * (len(row) - len(answer))
        assert [place for place, s in enumerate(answer) if s == task.end_symbol] == [
            len(answer) - 1
        ]


@pytest.mark.parametrize("name", EXAMPLES)
def test_right_answers_score_best_and_none_at_all_scores_at_chance(name: str) -> None:
    task = EXAMPLES[name]
    batch = take(task, "test", 16)
    metrics = {metric.name: metric for metric in task.metrics}
    perfect = {
        **task.score(one_hot(task, batch.targets), batch.targets),
        **task.score_written(batch.targets, batch),
    }
    assert list(metrics) == [*metrics]
    assert perfect.keys() == metrics.keys()
    for key, (total, count) in perfect.items():
        best = 1.0 if metrics[key].higher_is_better else 0.0
        value = metrics[key].finish(total.reshape(-1).tolist(), count.item())
        assert value == pytest.approx(best), key
    if isinstance(task, Writing):
        nothing = torch.full_like(batch.targets, UNSCORED)
        nothing[:, 0] = task.end_symbol  # type: ignore[call-overload]
        for key, (total, count) in task.score_written(nothing, batch).items():
            value = metrics[key].finish(total.reshape(-1).tolist(), count.item())
            assert value == metrics[key].chance


@pytest.mark.parametrize("name", EXAMPLES)
def test_metrics_of_a_whole_equal_those_of_its_parts(name: str) -> None:
    task = EXAMPLES[name]
    batch = take(task, "test", 21)
    outputs = one_hot(task, batch.targets) + 60 * torch.randn(
        *batch.targets.shape, task.n_outputs, generator=generator(name)
    )
    written = outputs.argmax(-1)

    def counts(part: slice) -> dict[str, list[float]]:
        lengths = None if batch.lengths is None else batch.lengths[part]
        cut = Batch(batch.inputs[part], batch.targets[part], lengths)
        scores = {
            **task.score(outputs[part], cut.targets),
            **task.score_written(written[part], cut),
        }
        for total, count in scores.values():
            assert total.dtype == count.dtype == torch.float32
        return {
            k: [*total.reshape(-1).tolist(), count.item()] for k, (total, count) in scores.items()
        }

    whole, one, other = counts(slice(21)), counts(slice(8)), counts(slice(8, 21))
    for key, numbers in whole.items():
        added = [a + b for a, b in zip(one[key], other[key], strict=True)]
        assert added == pytest.approx(numbers, rel=COUNTED_ALIKE)
        assert numbers[-1] > 0


@pytest.mark.parametrize("name", ["pos", "python_tokens"])
def test_untrained_networks_score_at_chance(name: str) -> None:
    task = EXAMPLES[name]
    batch = take(task, "test", 256)
    found = []
    for seed in range(32):
        right, count = task.score(answers(task, batch, seed), batch.targets)["accuracy"]
        found.append(float(right / count))
    scores = torch.tensor(found)
    error = float(scores.std()) / math.sqrt(len(found))
    assert abs(float(scores.mean()) - task.metrics[0].chance) < STANDARD_ERRORS * error
    assert task.metrics[0].chance == 1 / {"pos": 17, "python_tokens": len(CLASSES)}[name]


def test_all_outside_scores_no_entity_and_an_untrained_network_few() -> None:
    task = EXAMPLES["ner"]
    batch = take(task, "test", 100)
    outside = torch.full_like(batch.targets, task.labels.index("O"))  # type: ignore[attr-defined]
    scores = task.score(one_hot(task, outside), batch.targets)
    for metric in task.metrics:
        total, count = scores[metric.name]
        assert metric.finish([total.item()], count.item()) == metric.chance == 0
    blind = [
        float(total / count)
        for total, count in (
            task.score(answers(task, batch, seed), batch.targets)["f1"] for seed in range(8)
        )
    ]
    assert sum(blind) / len(blind) < 0.2  # two entities in five words, of three types


@pytest.mark.parametrize("name", EXAMPLES)
def test_it_trains_and_the_row_is_whole(name: str) -> None:
    task = EXAMPLES[name]
    run = parse_run(
        {
            "architecture": "gru",
            "task": {"name": name, **task.options()},
            "length": task.length,
            "width": 8,
            "training": {"steps": 2, "batch_size": 16, "val_every": 2},
        }
    )
    if name == "python_tokens":
        run = run.model_copy(
            update={"task": run.task.model_copy(update={"options": {"n_eval_bytes": 3000}})}
        )
    row = execute(run, "test", {})
    assert row.status == "ok", (row.reason, row.log_tail)
    for metric in task.metrics:
        assert math.isfinite(row.metrics[f"test_{metric.name}"])  # type: ignore[arg-type]
