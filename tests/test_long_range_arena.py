"""Long Range Arena and docstring pairs: the laws of a task, and readers of the released formats."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tasks import TASKS
from tasks.data import cifar10, docstrings, lra
from tasks.data.errors import DataError
from tasks.data.records import Records
from tasks.image import Image
from tasks.listops import Listops
from tasks.pathfinder import Pathfinder
from tasks.task import SPLITS, Batch, Split, Task, Tokens
from tasks.text import Text
from tests.cases_lra import EXAMPLES, LENGTHS, solve_listops, use, value_of, write


@pytest.fixture(autouse=True)
def released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small data sets of the true formats, and an empty cache."""
    write(tmp_path)
    monkeypatch.setenv("SEQBENCH_DATA", str(tmp_path / "cache"))
    use(tmp_path, monkeypatch)
    return tmp_path


def rows(batch: Batch) -> list[bytes]:
    parts = [batch.inputs, batch.targets] + ([] if batch.lengths is None else [batch.lengths])
    return [b"".join(x[k].numpy().tobytes() for x in parts) for k in range(len(batch))]


def take(task: Task, split: Split, n: int, seed: int = 0) -> Batch:
    size = task.size(split)
    return task.examples(split, seed, torch.arange(n if size is None else min(n, size)))


# The laws of a task


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("split", SPLITS)
def test_an_example_is_a_function_of_seed_split_and_index(name: str, split: Split) -> None:
    task = EXAMPLES[name]
    whole = rows(take(task, split, 37, seed=3))
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))
    for part in order.tensor_split(3):
        if len(part):
            assert rows(task.examples(split, 3, part)) == [whole[k] for k in part.tolist()]


@pytest.mark.parametrize("name", ["listops", "docstring_pairs"])
def test_another_seed_gives_other_training_examples(name: str) -> None:
    task = EXAMPLES[name]
    assert not set(rows(take(task, "train", 64, 0))) & set(rows(take(task, "train", 64, 1)))


@pytest.mark.parametrize("name", EXAMPLES)
def test_splits_do_not_overlap(name: str) -> None:
    task = EXAMPLES[name]
    found = {
        split: {x.numpy().tobytes() for x in take(task, split, 200).inputs} for split in SPLITS
    }
    assert all(found.values())
    assert not found["train"] & found["val"]
    assert not found["train"] & found["test"]
    assert not found["val"] & found["test"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_length_really_is_the_length_and_inputs_are_what_the_task_says(name: str) -> None:
    for length in LENGTHS[name]:
        task: Any = TASKS[name](length=length)
        batch = take(task, "test", 2)
        shape = (2, 2, length) if task.kind == "pair" else (2, length)
        assert batch.inputs.shape[: len(shape)] == shape
        if isinstance(task.inputs, Tokens):
            assert batch.inputs.dtype == torch.int64
            assert 0 <= batch.inputs.min() <= batch.inputs.max() < task.inputs.vocabulary
        else:
            assert batch.inputs.shape[-1] == task.inputs.channels
            assert batch.inputs.abs().max() <= 3
        if batch.lengths is not None:
            real = torch.arange(length) < batch.lengths[..., None]
            assert (batch.inputs[~real] == 0).all()
            assert (batch.inputs[real] > 0).all()
        assert batch.targets.min() >= 0
        assert batch.targets.max() < task.n_outputs


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_index_beyond_the_split_raises(name: str) -> None:
    size = EXAMPLES[name].size("test")
    assert size is not None
    for index in (-1, size):
        with pytest.raises(IndexError):
            EXAMPLES[name].examples("test", 0, torch.tensor([0, index]))


@pytest.mark.parametrize("name", EXAMPLES)
def test_right_answers_score_best(name: str) -> None:
    task = EXAMPLES[name]
    batch = take(task, "val", 4)
    right = torch.nn.functional.one_hot(batch.targets, task.n_outputs).float()
    total, count = task.score(right, batch.targets)["accuracy"]
    assert (float(total), float(count)) == (len(batch), len(batch))


@pytest.mark.parametrize("name", ["docstring_pairs", "pathfinder"])
def test_answers_are_even(name: str) -> None:
    labels = take(EXAMPLES[name], "train", 400).targets.double()
    assert abs(labels.mean().item() - 0.5) < 3 * 0.5 / math.sqrt(len(labels))


# ListOps


def test_the_slow_solver_knows_the_published_examples() -> None:
    assert value_of(["[MAX", "2", "9", "[MIN", "4", "7", "]", "0", "]"]) == 9
    assert value_of(["[MED", "1", "4", "]"]) == 2
    assert value_of(["[SM", "9", "8", "[MED", "1", "2", "8", "]", "]"]) == 9


@pytest.mark.parametrize("length", [30, 100, 700])
def test_values_agree_with_a_slow_solver(length: int) -> None:
    task = Listops(length=length)
    batch = take(task, "train", 60)
    for inputs, target in zip(batch.inputs, batch.targets.tolist(), strict=True):
        assert solve_listops(task, inputs) == target


def test_expressions_have_the_published_lengths_values_and_trivial_scores() -> None:
    batch = take(Listops(n_test=2000), "test", 2000)
    assert batch.lengths is not None
    assert batch.lengths.min() >= 501
    assert batch.lengths.max() <= 1999
    # Of 4,000 published expressions: mean 1,062 (deviation about 400), zeros .172, nines .175.
    assert abs(batch.lengths.double().mean().item() - 1062) < 3 * 400 * math.sqrt(
        1 / 2000 + 1 / 4000
    )
    shares = batch.targets.bincount(minlength=10) / 2000
    error = 3 * math.sqrt(0.175 * 0.825 * (1 / 2000 + 1 / 4000))
    assert abs(shares[0].item() - 0.172) < error
    assert abs(shares[9].item() - 0.175) < error
    (metric,) = Listops().metrics
    counts = torch.zeros(16, 10)
    counts.index_put_((batch.inputs[:, 0], batch.targets), torch.tensor(1.0), accumulate=True)
    assert metric.baseline is not None
    assert abs(counts.amax(1).sum().item() / 2000 - metric.baseline) < 3 * math.sqrt(0.234 / 2000)
    assert abs(shares.max().item() - metric.chance) < error


def test_operators_and_the_number_of_arguments_are_uniform_at_the_root() -> None:
    batch = take(Listops(length=64, max_depth=3, n_test=3000), "test", 3000)
    shares = batch.inputs[:, 0].bincount(minlength=16)[11:15] / 3000
    assert (shares - 0.25).abs().max() < 4 * math.sqrt(0.1875 / 3000)


def test_released_expressions_are_read_without_round_brackets() -> None:
    task = Listops(source="released", length=20)
    batch = take(task, "val", 2)
    assert batch.inputs[0, :8].tolist() == [12, 2, 11, 5, 6, 15, 15, 0]
    assert batch.targets.tolist() == [4, 2]
    assert [solve_listops(task, x) for x in batch.inputs] == [4, 2]
    assert len(task.fingerprint()) == 64
    assert task.data_sets == ("lra",)


@pytest.mark.parametrize(
    ("line", "number"), [("[MIN 1 ]\t12", 2), ("[MIN a ]\t1", 2), ("[FOO 1 ]\t1", 2), ("\t1", 2)]
)
def test_a_line_that_is_no_expression_is_named(line: str, number: int, tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_text(f"Source\tTarget\n{line}\n")
    with pytest.raises(DataError, match=rf"x\.tsv:{number}: "):
        lra.read_listops(path)
    path.write_text("wrong\n")
    with pytest.raises(DataError, match=r"x\.tsv:1: the header"):
        lra.read_listops(path)


# Documents


def test_papers_are_cut_to_their_first_bytes_and_kept_once() -> None:
    read = lra.pairs("train", 12)
    assert len(read.documents) == 2  # "train paper " and "other train "
    assert lra.pairs("train", 40).documents.ends.diff().max() > 12
    batch = take(TASKS["retrieval"](length=40), "val", 3)
    assert batch.lengths is not None
    n = int(batch.lengths[2, 1])
    assert bytes((batch.inputs[2, 1, :n] - 1).tolist()) == b"other eval 1xx"
    assert batch.targets.tolist() == [0, 1, 0]


def test_a_line_that_is_no_pair_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_text("1.0\ta\tb\tone\ttwo\n2.0\ta\tb\tone\ttwo\n")
    with pytest.raises(DataError, match=r"x\.tsv:2: not a line of label, two ids"):
        lra.read_pairs(path, 9)


def test_validation_is_held_out_or_as_published_the_test_set() -> None:
    held, published = Text(length=30), Text(length=30, validation="test")
    assert [held.size(split) for split in SPLITS] == [36, 4, 40]
    assert [published.size(split) for split in SPLITS] == [40, 40, 40]
    assert rows(take(published, "val", 40)) == rows(take(published, "test", 40))
    both = rows(take(held, "val", 40)) + rows(take(held, "train", 40))
    assert both == rows(take(published, "train", 40))
    batch = take(held, "train", 1)
    assert batch.lengths is not None
    text = bytes((batch.inputs[0, : int(batch.lengths[0])] - 1).tolist()).decode()
    assert ("good" in text) == bool(batch.targets[0])


def test_names_are_taken_out_of_docstrings_and_bodies() -> None:
    source = '''
class Heap:
    def push(self, item):
        """push(item): put the item on the Heap, pushing others down."""
        self.items.append(item)  # push
        return Heap.push
    def bare(self):
        """Nothing else is here at all, only this."""
'''
    ((name, docstring, body),) = docstrings.functions(source)
    assert name == "push"
    assert docstring == "_(item): put the item on the _, pushing others down."
    assert body == "self.items.append(item)  # _\nreturn _._"


def test_neither_docstring_nor_body_alone_says_anything() -> None:
    task: Any = EXAMPLES["docstring_pairs"]
    batch = take(task, "test", 10**6)
    for side in (0, 1):
        of = {
            label: sorted(x.numpy().tobytes() for x in batch.inputs[batch.targets == label, side])
            for label in (0, 1)
        }
        assert of[0] == of[1]
    first = {split: docstrings.read("docstring_pairs")[split] for split in SPLITS}
    assert all(len(of_split.bodies) > 50 for of_split in first.values())


# Images


def test_photographs_are_read_in_grey_colour_and_symbols() -> None:
    content = np.fromfile(
        cifar10.set_folder("cifar10") / "cifar-10-batches-bin/data_batch_5.bin", dtype=np.uint8
    ).reshape(20, -1)
    red, green, blue = content[0, 1:].reshape(3, 1024).astype(float)
    expected = (0.2989 * red + 0.587 * green + 0.114 * blue).astype(int)
    symbols = take(Image(as_tokens=True), "val", 1)
    assert np.abs(symbols.inputs[0].numpy() - expected).max() <= 1  # single precision
    assert (symbols.inputs[0].numpy() == expected).mean() > 0.99
    grey = take(Image(), "val", 1).inputs[0, :, 0]
    torch.testing.assert_close(grey, (symbols.inputs[0] - 122.6) / 61.0, rtol=1e-5, atol=1e-5)
    colour = take(Image(colour=True), "val", 1).inputs[0]
    assert colour[7, 1].item() == pytest.approx((green[7] / 255 - 0.4822) / 0.243, abs=1e-5)
    small = take(Image(length=64), "val", 1).inputs[0]
    assert small[0, 0].item() == pytest.approx(grey.view(32, 32)[:4, :4].mean().item(), abs=1e-4)


def test_a_file_of_other_records_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"\0" * 3074)
    with pytest.raises(DataError, match="3074 bytes, not records of 3073"):
        cifar10.read_batch(tmp_path / "x.bin")
    (tmp_path / "x.bin").write_bytes(b"\x0b" + b"\0" * 3072)
    with pytest.raises(DataError, match="label 11"):
        cifar10.read_batch(tmp_path / "x.bin")


def test_released_images_are_in_the_order_of_batch_numbers() -> None:
    task = Pathfinder(source="released", as_tokens=True)
    assert [task.size(split) for split in SPLITS] == [8, 1, 1]
    whole = torch.cat([take(task, split, 9).inputs[:, 0] for split in SPLITS])
    assert whole.tolist() == [20, 21, 22, 23, 24, 100, 101, 102, 103, 104]
    assert take(task, "train", 8).targets.tolist() == [0, 1, 0, 1, 0, 0, 1, 0]
    reals = take(Pathfinder(source="released"), "train", 1).inputs
    assert reals[0, 0, 0].item() == pytest.approx(20 / 127.5 - 1)


def test_broken_released_images_are_named(released: Path) -> None:
    folder = released / "lra/lra_release/lra_release/pathfinder32/curv_contour_length_14"
    (folder / "imgs/2/sample_0.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"sample_0\.png is no PNG"):
        take(Pathfinder(source="released"), "train", 1)
    (folder / "metadata/2.npy").write_bytes(b"\x93NUMPY")
    lra.images.cache_clear()
    with pytest.raises(DataError, match=r"2\.npy is not text"):
        take(Pathfinder(source="released"), "train", 1)


# Records


def test_a_record_is_made_once_and_again_where_it_is_broken(tmp_path: Path) -> None:
    made: list[int] = []

    def make(number: int) -> bytes:
        made.append(number)
        return bytes([number]) * 5

    path = tmp_path / "below" / "x.records"
    for _ in range(2):
        for number in (7, 0, 3):
            assert Records(path, 5).get(number, make) == bytes([number]) * 5
    assert made == [7, 0, 3]
    content = bytearray(path.read_bytes())
    content[3 * 9 + 6] ^= 1
    path.write_bytes(content[:-2])
    for number in (7, 0, 3):
        assert Records(path, 5).get(number, make) == bytes([number]) * 5
    assert made == [7, 0, 3, 7, 3]
    with pytest.raises(ValueError, match="record 1 has 1 bytes, not 5"):
        Records(path, 5).get(1, lambda _: b"x")


def test_without_a_cache_that_can_be_written_images_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = EXAMPLES["pathfinder"]
    before = rows(take(task, "val", 3))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SEQBENCH_DATA", str(tmp_path / "file"))
    assert rows(take(task, "val", 3)) == before


# Bad fields


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("listops", {"length": 17}, "length must be an integer of at least 18, not 17"),
        ("listops", {"longer_than": 1999}, "longer_than must be at most length - 2 = 1998"),
        ("listops", {"max_depth": 2}, "give at most 12 tokens"),
        ("listops", {"source": "web"}, r"source must be one of \('generated', 'released'\)"),
        ("pathfinder", {"length": 100}, r"one of \[1024, 4096, 16384, 65536\], not 100"),
        ("pathfinder", {"contour_length": 7}, r"contour_length must be one of \[6, 9, 14\], not 7"),
        ("pathx", {"length": 1024}, r"one of \[16384, 65536\], not 1024"),
        ("text", {"validation": "train"}, r"validation must be one of \('held_out', 'test'\)"),
        ("image", {"length": 100}, r"one of \[64, 256, 1024\], not 100"),
        ("image", {"colour": True, "as_tokens": True}, "as_tokens must be false with colour"),
    ],
)
def test_bad_fields_raise_and_say_what_is_valid(
    name: str, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        TASKS[name](**fields)


def test_a_window_that_hardly_any_expression_falls_into_is_refused() -> None:
    with pytest.raises(ValueError, match="choose a larger depth or another length"):
        take(Listops(length=1000, longer_than=990, max_depth=4), "test", 1)
