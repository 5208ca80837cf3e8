"""Rows of one's own: strict about their format, and split for good."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tasks.csv_classification import CsvClassification
from tasks.data import labelled_csv
from tasks.task import SPLITS, Split, Task
from tests import cases_signal


def whole(task: Task, split: Split) -> tuple[Tensor, Tensor]:
    size = task.size(split)
    assert size is not None
    batch = task.examples(split, 0, torch.arange(size))
    return batch.inputs, batch.targets


def rows_of(task: CsvClassification, split: Split) -> list[tuple[int, bytes]]:
    inputs, labels = whole(task, split)
    return [(int(label), row.numpy().tobytes()) for label, row in zip(labels, inputs, strict=True)]


def test_labels_and_values_are_those_of_the_file(small: Path) -> None:
    task = CsvClassification(path=cases_signal.OWN_ROWS, length=30)
    with (small / cases_signal.OWN_ROWS).open() as file:
        lines = list(csv.reader(file))[1:]
    label_of = {tuple(float(cell) for cell in line[1:] if cell): line[0] for line in lines}
    assert sum(task.size(split) for split in SPLITS) == len(lines) == len(label_of)
    parts = task._parts()
    everything = []
    for split in SPLITS:
        batch = task.examples(split, 0, torch.arange(task.size(split)))
        assert batch.lengths is not None
        for inputs, label, n_real in zip(
            batch.inputs[:, :, 0], batch.targets.tolist(), batch.lengths.tolist(), strict=True
        ):
            values = inputs[:n_real].double() * parts.deviation + parts.mean
            (nearest,) = [
                key
                for key in label_of
                if len(key) == n_real and np.allclose(key, values, rtol=1e-4, atol=1e-4)
            ]
            assert label_of[nearest] == "abc"[label]
            if split == "train":
                everything += inputs[:n_real].tolist()
        counts = batch.targets.bincount(minlength=3)
        assert counts.tolist() == ([30] * 3 if split != "train" else [140] * 3)
    assert np.mean(everything) == pytest.approx(0, abs=1e-5)
    assert np.std(everything) == pytest.approx(1, abs=1e-5)


def test_equal_rows_come_into_one_split(tmp_path: Path) -> None:
    file = tmp_path / "twins.csv"
    lines = [f"{'ab'[row % 2]},{row % 40},{row % 7}" for row in range(280 * 2)]
    file.write_text("\n".join(["label,x,y", *lines]))
    task = CsvClassification(path=str(file), length=2)
    found = {split: {row for _, row in rows_of(task, split)} for split in SPLITS}
    assert sum(task.size(split) for split in SPLITS) == len(lines)
    assert sum(map(len, found.values())) == len(set.union(*found.values())) == 280


def test_chance_is_the_commonest_label_of_train_on_test(tmp_path: Path) -> None:
    file = tmp_path / "uneven.csv"
    lines = [f"{'rare' if row < 20 else 'common'},{row}" for row in range(100)]
    file.write_text("\n".join(["label,value", *lines]))
    task = CsvClassification(path=str(file), length=1, test_share=0.1, val_share=0.1)
    assert [task.size(split) for split in SPLITS] == [80, 10, 10]
    assert task.metrics[0].chance == pytest.approx(0.8)


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("label,v\n" + "".join(f"{'ab'[row % 2]},{row}\n" for row in range(20)))
    task = CsvClassification(path=str(file), length=1)
    before = (task.fingerprint(), task.size("train"))
    file.write_text("label,v\n" + "".join(f"{'ab'[row % 2]},{row}\n" for row in range(200)))
    assert before != (task.fingerprint(), task.size("train"))
    copy = tmp_path / "copy.csv"
    copy.write_bytes(file.read_bytes())
    assert replace(task, path=str(copy)).fingerprint() == task.fingerprint()


GOOD_ROWS = "".join(f"{'ab'[row % 2]},{row},1\n" for row in range(20))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("a,1,2\nb,2,3\n", "line 1: columns must be 'label'"),
        ("label\na\n", "line 1: columns must be 'label'"),
        (f"label,x,y\n{GOOD_ROWS}a,1\n", "line 22: 2 cells, and the first line has 3"),
        (f"label,x,y\n{GOOD_ROWS}a,1,2,3\n", "line 22: 4 cells, and the first line has 3"),
        (f"label,x,y\n\n{GOOD_ROWS}", "line 2: 0 cells, and the first line has 3"),
        (f"label,x,y\n{GOOD_ROWS}a,1,x\n", "line 22: could not convert string to float: 'x'"),
        (f"label,x,y\n{GOOD_ROWS}a,,1\n", "line 22: could not convert string to float: ''"),
        (f"label,x,y\n{GOOD_ROWS}a,,\n", "line 22: no values"),
        (f"label,x,y\n{GOOD_ROWS}a,nan,1\n", "line 22: a value is not finite"),
        (f"label,x,y\n{GOOD_ROWS},1,1\n", "line 22: the label is '': empty"),
        (f"label,x,y\n{GOOD_ROWS}a ,1,1\n", "line 22: the label is 'a ': empty, or with spaces"),
        ("label,x\na,1\na,2\n", r"has 1 labels, and two are needed: \('a',\)"),
        ("label,x\na,1\na,2\nb,1\n", "the label 'a' has 2 different sequences, too few"),
    ],
)
def test_a_file_of_another_format_names_its_line(
    tmp_path: Path, content: str, message: str
) -> None:
    file = tmp_path / "wrong.csv"
    file.write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        CsvClassification(path=str(file), length=2).size("test")
    assert str(file) in str(caught.value)


def test_a_file_that_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "walking.csv").touch()
    with pytest.raises(ValueError, match=r"no file .*; did you mean .*walking\.csv\?"):
        CsvClassification(path=str(tmp_path / "walkin.csv"), length=2).size("test")


def test_quoted_cells_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    file = tmp_path / "quoted.csv"
    content = '\ufefflabel,x\n"a, b",1\n"a, b",2\n"a, b",3\nc,4\nc,5\nc,6\n'
    file.write_bytes(content.replace("\n", "\r\n").encode())
    task = CsvClassification(path=str(file), length=1)
    assert labelled_csv.read(labelled_csv.Version(str(file), 0, 0)).classes == ("a, b", "c")
    assert [task.size(split) for split in SPLITS] == [2, 2, 2]


def test_a_file_first_read_while_models_are_sized_is_read(small: Path) -> None:
    labelled_csv.read.cache_clear()
    task = CsvClassification(path=cases_signal.OWN_ROWS, length=3)
    with torch.device("meta"):
        assert task.n_outputs == 3
    assert task.examples("val", 0, torch.arange(2)).inputs.isfinite().all()
