"""The order of examples over devices and epochs, and metrics that are divided once."""

import math

import pytest
import torch

from bench.training.data import EvaluationOrder, TaskDataModule, TrainOrder
from bench.training.execute import (
    prepare,
)
from bench.training.scores import Scores
from tasks.task import Count
from tests.small_run import a_run


def test_one_device_and_two_see_the_same_examples_in_the_same_batches():
    alone = list(TrainOrder(100, 10, 15, seed=3, rank=0, world_size=1))
    shares = [list(TrainOrder(100, 10, 15, seed=3, rank=rank, world_size=2)) for rank in (0, 1)]
    for whole, first, second in zip(alone, *shares, strict=True):
        assert sorted(whole.tolist()) == sorted([*first.tolist(), *second.tolist()])


def test_an_epoch_holds_every_example_once_and_the_next_one_has_another_order():
    batches = list(TrainOrder(30, 10, 6, seed=0, rank=0, world_size=1))
    first, second = torch.cat(batches[:3]), torch.cat(batches[3:])
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(30))
    assert first.tolist() != second.tolist()


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_evaluation_counts_every_example_once_on_any_number_of_devices(world_size):
    seen = [
        index
        for rank in range(world_size)
        for batch in EvaluationOrder(23, 4, rank, world_size)
        for index in batch.tolist()
    ]
    assert sorted(seen) == list(range(23))


def test_no_training_example_is_evaluated(monkeypatch):
    """The loaders ask the task for the split that they are named after."""
    run = a_run(task="digits", length=16)
    data = TaskDataModule(run, prepare(run).task)
    for split in ("train", "val", "test"):
        loader = getattr(data, f"{split}_dataloader")()
        assert loader.dataset.split == split


def test_metrics_are_divided_once():
    """Two batches with 1 and 9 answers: the mean of means would be 0.5."""
    scores = Scores()
    scores.add({"accuracy": Count(torch.tensor(1.0), torch.tensor(1))})
    scores.add({"accuracy": Count(torch.tensor(0.0), torch.tensor(9))})
    assert scores.reduce(lambda pair: pair) == {"accuracy": 0.1}
    assert scores.reduce(lambda pair: 2 * pair) == {"accuracy": 0.1}  # two equal devices


def test_a_metric_that_nothing_counted_is_not_zero():
    scores = Scores()
    scores.add({"accuracy": Count(torch.tensor(0.0), torch.tensor(0))})
    assert math.isnan(scores.reduce(lambda pair: pair)["accuracy"])


@pytest.mark.parametrize("size", [None, 30])
def test_an_order_that_begins_later_gives_what_is_left(size):
    """Across an epoch's end too; its length stays that of all steps, as Lightning counts."""
    whole = list(TrainOrder(size, 10, 6, seed=0, rank=1, world_size=2))
    rest = TrainOrder(size, 10, 6, seed=0, rank=1, world_size=2, start=2)
    assert len(rest) == 6
    assert [batch.tolist() for batch in rest] == [batch.tolist() for batch in whole[2:]]
