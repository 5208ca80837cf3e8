"""Forecasts and music: every hour and frame is asked for once, from those before it."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tasks.data import hourly, jsb
from tasks.ett import MONTH, Ett
from tasks.hourly import Hourly
from tasks.jsb import Jsb
from tasks.scoring import absolute_error, squared_error
from tasks.task import SPLITS, MissingPackageError, Split, Task
from tasks.temperatures import Temperatures
from tests import cases_signal
from tests.cases_signal import TrueFiles

PUBLISHED_DIGITS = 5e-5  # half of the last digit of constants that are given with four or five
SINGLE = 1e-5  # relative: float32 sums in another order


def whole(task: Task, split: Split) -> tuple[Tensor, Tensor]:
    size = task.size(split)
    assert size is not None
    batch = task.examples(split, 0, torch.arange(size))
    return batch.inputs, batch.targets


def temperatures(**fields: int) -> Temperatures:
    task = Temperatures(**fields)
    try:
        task.read()
    except MissingPackageError as error:
        pytest.skip(str(error))
    return task


# Forecasts


def test_errors_are_of_values_that_are_not_nan() -> None:
    outputs = torch.tensor([[[1.0, 5.0], [3.0, -1.0]]], requires_grad=True)
    values = torch.tensor([[[0.0, math.nan], [5.0, 0.0]]])
    assert [x.item() for x in squared_error(outputs, values)] == [6.0, 3.0]
    assert [x.item() for x in absolute_error(outputs, values)] == [4.0, 3.0]
    (gradient,) = torch.autograd.grad(squared_error(outputs, values).sum, outputs)
    assert gradient.tolist() == [[[2.0, 0.0], [-4.0, -2.0]]]
    broken = squared_error(outputs * math.nan, values)
    assert broken.sum.isnan()  # an output that is no number is no right answer


@pytest.mark.parametrize("horizon", [1, 5])
@pytest.mark.parametrize("split", SPLITS)
def test_the_target_is_the_value_horizon_hours_later(
    small: Path, split: Split, horizon: int
) -> None:
    with (small / "ett" / "ETTh1.csv").open() as file:
        table = np.array([row[1:] for row in list(csv.reader(file))[1:]], dtype=float)
    train = table[: 12 * MONTH]
    series = (table - train.mean(0)) / np.sqrt(((train - train.mean(0)) ** 2).mean(0))
    first = {"train": horizon, "val": 12 * MONTH, "test": 16 * MONTH}[split]
    end = {"train": 12 * MONTH, "val": 16 * MONTH, "test": 20 * MONTH}[split]
    task = Ett(length=50, horizon=horizon)
    size = task.size(split)
    for window in (0, 1, size - 1):
        batch = task.examples(split, 0, torch.tensor([window]))
        start = first + window * (1 if split == "train" else 50)
        for step in range(50):
            hour = start + step
            found = batch.targets[0, step].tolist()
            if hour < end:
                assert found == pytest.approx(series[hour].tolist(), rel=1e-4, abs=1e-6)
                now = batch.inputs[0, step].tolist()
                assert now == pytest.approx(series[hour - horizon].tolist(), rel=1e-4, abs=1e-6)
            else:
                assert split != "train"
                assert all(map(math.isnan, found))
    assert start + 50 == end if split == "train" else start < end <= start + 50


@pytest.mark.parametrize("length", [1, 64, 1000, 1752])
def test_every_length_and_horizon_scores_the_same_hours_once(length: int) -> None:
    for horizon in (1, 24):
        task = temperatures(length=length, horizon=horizon)
        for split in ("val", "test"):
            _, targets = whole(task, split)
            scored = targets.flatten(0, 1)
            scored = scored[~scored.isnan().any(1)]
            first, end = task.bounds[split]
            train = task.read()[: task.bounds["train"][1]]
            expected = (task.read()[first:end] - train.mean(0)) / train.std(0, correction=0)
            assert torch.equal(scored, expected.float())


def test_windows_of_a_held_out_split_go_on_where_the_one_before_ends() -> None:
    task = temperatures(length=100)
    assert task.contiguous
    for split in ("val", "test"):
        inputs, targets = whole(task, split)
        assert torch.equal(inputs[1:, 0], targets[:-1, -1])
        assert torch.equal(inputs[:-1, 1:], targets[:-1, :-1])


def constants(task: Hourly, horizons: list[int]) -> None:
    _, targets = whole(task, "test")
    found = task.score(torch.zeros_like(targets), targets)
    for metric in task.metrics:
        total, count = found[metric.name]
        assert (total / count).item() == pytest.approx(metric.chance, abs=PUBLISHED_DIGITS)
    for horizon in horizons:
        late = replace(task, horizon=horizon)
        inputs, targets = whole(late, "test")
        found = late.score(inputs, targets)
        for metric in late.metrics:
            total, count = found[metric.name]
            assert (total / count).item() == pytest.approx(metric.baseline, abs=PUBLISHED_DIGITS)
            assert metric.baseline_rule == f"the value {horizon} h before"


def test_chance_and_persistence_are_those_of_the_test_split(true_files: TrueFiles) -> None:
    true_files("ett_small", "ett")
    constants(Ett(length=700), list(Ett.persistence))


def test_chance_and_persistence_of_temperatures_are_those_of_the_test_split() -> None:
    constants(temperatures(length=700), list(Temperatures.persistence))


def test_an_unknown_horizon_has_no_baseline() -> None:
    metric = Ett(horizon=2).metrics[0]
    assert (metric.baseline, metric.baseline_rule) == (None, "")
    assert metric.chance == Ett().metrics[0].chance


def test_series_are_standardised_by_train(true_files: TrueFiles) -> None:
    true_files("ett_small", "ett")
    task = Ett(length=1)
    inputs, _ = whole(task, "train")
    assert inputs.mean((0, 1)).abs().max() < 1e-3  # the last hour of train is no input
    assert (inputs.std((0, 1)) - 1).abs().max() < 1e-3
    assert task.read().shape == (17420, 7)


# Music


def test_every_frame_but_the_first_of_a_piece_is_scored_once_at_every_length(small: Path) -> None:
    content = json.loads((small / "jsb" / "jsb-chorales-quarter.json").read_text())
    for length in (1, 7, 160):
        task = Jsb(length=length)
        for split, key in (("train", "train"), ("val", "valid"), ("test", "test")):
            size = task.size(split)
            batch = task.examples(split, 0, torch.arange(size))
            assert batch.lengths is not None
            rows = iter(zip(batch.inputs, batch.targets, batch.lengths.tolist(), strict=True))
            for piece in content[key]:
                before = 0
                while before < len(piece) - 1:
                    inputs, targets, n_real = next(rows)
                    assert n_real == min(length, len(piece) - 1 - before)
                    for step in range(n_real):
                        for found, frame in (
                            (inputs, piece[before + step]),
                            (targets, piece[before + step + 1]),
                        ):
                            sounding = found[step].nonzero().flatten().tolist()
                            assert sounding == sorted({note - 21 for note in frame})
                    assert targets[n_real:].isnan().all()
                    assert (inputs[n_real:] == 0).all()
                    before += n_real
            assert next(rows, None) is None


def test_nats_per_frame_by_hand() -> None:
    task = Jsb(length=2)
    outputs, targets = torch.zeros(1, 2, 88), torch.zeros(1, 2, 88)
    outputs[0, 0, 3], targets[0, 0, 3] = 2.0, 1.0
    outputs[0, 0, 5] = -1.0
    targets[0, 1] = math.nan
    total, count = task.score(outputs, targets)["nll_per_frame"]
    expected = 86 * math.log(2) + math.log1p(math.exp(-2)) + math.log1p(math.exp(-1))
    assert (total.item(), count.item()) == (pytest.approx(expected, rel=SINGLE), 1.0)
    loss, n_notes = task.loss(outputs, targets)
    assert (loss.item(), n_notes.item()) == (total.item(), 88.0)


@pytest.mark.parametrize("resolution", ["quarter", "16th"])
def test_chance_and_baseline_of_the_chorales(resolution: str, true_files: TrueFiles) -> None:
    true_files("jsb_chorales", "jsb")
    task = Jsb(length=100, resolution=resolution)  # type: ignore[arg-type]
    (metric,) = task.metrics
    _, of_train = whole(task, "train")
    _, of_test = whole(task, "test")
    frames = of_train[~of_train.isnan().any(-1)].double()
    frequency = (frames.sum(0) + 1) / (len(frames) + 2)
    for logits, known in (
        (torch.zeros(88), metric.chance),
        (frequency.logit().float(), metric.baseline),
    ):
        total, count = task.score(logits.expand_as(of_test), of_test)["nll_per_frame"]
        assert (total / count).item() == pytest.approx(known, rel=SINGLE)


def test_the_quarter_notes_are_the_matrices_of_bai_et_al(true_files: TrueFiles) -> None:
    from scipy.io import loadmat

    folder = true_files("jsb_chorales", "jsb")
    matrices = loadmat(str(folder / "locuslab_TCN" / "JSB_Chorales.mat"))
    task = Jsb()
    for split, key in (("train", "traindata"), ("val", "validdata"), ("test", "testdata")):
        pieces = matrices[key][0]
        assert task.size(split) == len(pieces) == {"train": 229, "val": 76, "test": 77}[split]
        batch = task.examples(split, 0, torch.arange(len(pieces)))
        for piece, inputs, targets in zip(pieces, batch.inputs, batch.targets, strict=True):
            roll = torch.from_numpy(piece.astype(np.float32))
            assert torch.equal(inputs[: len(roll) - 1], roll[:-1])
            assert torch.equal(targets[: len(roll) - 1], roll[1:])


# Files of another format


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no JSON"),
        ('{"train": []}', "must have the keys train, valid, test"),
        ('{"train": [], "valid": [], "test": []}', "train must be a list of pieces"),
        ('{"train": [[[60]]], "valid": [], "test": []}', "train, piece 0 must be a list of at"),
        (
            '{"train": [[[60], [20]]], "valid": [], "test": []}',
            r"train, piece 0, frame 1 must be a list of notes 21..108, not \[20\]",
        ),
        ('{"train": [[[60], [60.5]]], "valid": [], "test": []}', r"not \[60.5\]"),
        ('{"train": [[[60], [true]]], "valid": [], "test": []}', r"not \[True\]"),
    ],
)
def test_a_wrong_file_of_music_raises(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        jsb.read(tmp_path / "a.json")


def test_a_wrong_table_of_hours_names_its_line(tmp_path: Path) -> None:
    good = cases_signal.hourly_table(5, 0).decode().splitlines()
    wrong = {
        "line 1: columns must be date,HUFL": ["date,OT", *good[1:]],
        "line 5: 2016-07-01 04:00:00 is not an hour after 2016-07-01 02:00:00": [
            line for line in good if "03:00" not in line
        ],
        "line 3: could not convert": [*good[:2], good[2] + "x", *good[3:]],
        "line 3: not 7 finite": [*good[:2], good[2] + ",1", *good[3:]],
        "line 4: time data": [*good[:3], "x" + good[3], *good[4:]],
        "line 4: list index": [*good[:3], "", *good[4:]],
    }
    for number, (message, lines) in enumerate(wrong.items()):
        file = tmp_path / f"{number}.csv"
        file.write_text("\n".join(lines))
        with pytest.raises(ValueError, match=message):
            hourly.read_ett(file)
