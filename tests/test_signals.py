"""Pixels and recordings: they read what the files hold, split as published."""

from __future__ import annotations

import gzip
import math
import tarfile
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tasks import TASKS
from tasks.data import idx, recordings
from tasks.psmnist import Psmnist, pixel_order
from tasks.recordings import Recordings, _wave
from tasks.smnist import Smnist
from tasks.speech_commands import WORDS, SpeechCommands
from tasks.spoken_digits import SpokenDigits
from tasks.task import SPLITS, Split, Task
from tests import cases_signal
from tests.cases_signal import TrueFiles

PUBLISHED_DIGITS = 5e-5  # half of the last digit of constants that are given with four or five


def whole(task: Task, split: Split) -> tuple[Tensor, Tensor]:
    size = task.size(split)
    assert size is not None
    batch = task.examples(split, 0, torch.arange(size))
    return batch.inputs, batch.targets


# Pixels


def test_mnist_is_all_of_mnist(true_files: TrueFiles) -> None:
    folder = true_files("mnist", "smnist")
    task = Smnist()
    images, _ = task.read()
    assert images.mean().item() == pytest.approx(task.mean, abs=PUBLISHED_DIGITS)
    assert images.std().item() == pytest.approx(task.deviation, abs=PUBLISHED_DIGITS)
    for split, name, first in (("val", "train", 0), ("train", "train", 5000), ("test", "t10k", 0)):
        pixels = gzip.decompress((folder / f"{name}-images-idx3-ubyte.gz").read_bytes())[16:]
        labels = gzip.decompress((folder / f"{name}-labels-idx1-ubyte.gz").read_bytes())[8:]
        for index in (0, 1, task.size(split) - 1):
            batch = task.examples(split, 0, torch.tensor([index]))
            grey = (batch.inputs.flatten() * task.deviation + task.mean) * 255
            row = first + index
            assert grey.round().byte().numpy().tobytes() == pixels[784 * row : 784 * (row + 1)]
            assert batch.targets.item() == labels[row]
        assert first + task.size(split) == (5000 if split == "val" else len(labels))


def test_fewer_training_images_are_the_first_of_them(small: Path) -> None:
    few, all_of_them = Smnist(n_train=100), Smnist()
    assert [few.size(split) for split in SPLITS] == [100, 5000, 10000]
    assert [all_of_them.size(split) for split in SPLITS] == [55000, 5000, 10000]
    assert torch.equal(
        whole(few, "train")[0], all_of_them.examples("train", 1, torch.arange(100)).inputs
    )


def test_permutations_are_those_of_s4() -> None:
    assert pixel_order("bit_reversal", 784)[:6].tolist() == [0, 512, 256, 768, 128, 640]
    assert pixel_order("random", 784)[:4].tolist() == [319, 576, 323, 107]
    for n_pixels in (49, 196, 784, 1, 2, 3):
        for permutation in ("bit_reversal", "random"):
            order = pixel_order(permutation, n_pixels)  # type: ignore[arg-type]
            assert sorted(order.tolist()) == list(range(n_pixels))


@pytest.mark.parametrize("permutation", ["bit_reversal", "random"])
def test_permuted_images_are_those_of_smnist_in_another_order(
    small: Path, permutation: str
) -> None:
    for split in SPLITS:
        plain = Smnist().examples(split, 0, torch.arange(5))
        mixed = Psmnist(permutation=permutation).examples(  # type: ignore[arg-type]
            split, 0, torch.arange(5)
        )
        assert torch.equal(plain.targets, mixed.targets)
        assert not torch.equal(plain.inputs, mixed.inputs)
        for step, pixel in enumerate(pixel_order(permutation, 784).tolist()):  # type: ignore[arg-type]
            assert torch.equal(mixed.inputs[:, step], plain.inputs[:, pixel])


# Recordings


def by_the_standard_library(path: Path) -> tuple[Tensor, int]:
    with wave.open(str(path)) as file:
        content, rate = file.readframes(file.getnframes()), file.getframerate()
    numbers = [
        int.from_bytes(content[place : place + 2], "little", signed=True)
        for place in range(0, len(content), 2)
    ]
    return torch.tensor(numbers, dtype=torch.float64), rate


def check_waves(task: Recordings, split: Split, indices: list[int]) -> None:
    batch = task.examples(split, 0, torch.tensor(indices))
    assert batch.lengths is not None
    for row, index in enumerate(indices):
        samples, rate = by_the_standard_library(task.listing(split).paths[index])
        assert rate == task.recorded_rate
        expected = (samples - samples.mean()) / samples.std(correction=0)
        n_real = min(len(expected), task.length)
        assert batch.lengths[row] == n_real
        found = batch.inputs[row, :, 0]
        torch.testing.assert_close(found[:n_real].double(), expected[:n_real], rtol=1e-3, atol=1e-4)
        assert (found[n_real:] == 0).all()


def test_a_spoken_digit_is_its_samples_standardised(small: Path) -> None:
    for length in (200, 9000):
        check_waves(SpokenDigits(length=length), "val", [0, 7, 31])
    check_waves(SpeechCommands(), "test", [0, 5])


def test_spoken_digits_are_split_by_index(tmp_path: Path, true_files: TrueFiles) -> None:
    with tarfile.open(true_files("fsdd_subset") / "fsdd_subset.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    listing = recordings.list_fsdd(tmp_path / "recordings")
    indices = {"test": range(5), "val": range(5, 10), "train": range(10, 20)}
    for split, found in listing.items():
        names = {path.stem.split("_")[1] for path in found.paths}
        assert names == {"george", "jackson", "lucas", "nicolas", "theo", "yweweler"}
        keys = sorted(tuple(path.stem.split("_")) for path in found.paths)
        expected = [
            (str(digit), name, str(index))
            for digit in range(10)
            for name in names
            for index in indices[split]
        ]
        assert keys == sorted(expected)
        assert [int(path.name[0]) for path in found.paths] == found.labels.tolist()
        assert len(found.labels[:60].unique()) == 10
    wave_of = recordings.read_wave(listing["test"].paths[0], 8000)
    samples, _ = by_the_standard_library(listing["test"].paths[0])
    assert torch.equal(wave_of.double() * 32768, samples)


@pytest.mark.parametrize("n_words", [10, 35])
def test_commands_are_split_by_the_published_lists(small: Path, n_words: int) -> None:
    task = SpeechCommands(n_words=n_words)
    folder = small / "speech_commands"
    listings = {split: task.listing(split) for split in SPLITS}  # unpacks the archive
    lists = {
        "val": set((folder / "validation_list.txt").read_text().split()),
        "test": set((folder / "testing_list.txt").read_text().split()),
    }
    found: set[str] = set()
    for split, listing in listings.items():
        for path, label in zip(listing.paths, listing.labels.tolist(), strict=True):
            name = path.relative_to(folder).as_posix()
            assert path.parent.name == WORDS[n_words][label]
            assert [key for key, names in lists.items() if name in names] == (
                [] if split == "train" else [split]
            )
            found.add(name)
    assert found == {
        path.relative_to(folder).as_posix()
        for word in WORDS[n_words]
        for path in (folder / word).glob("*.wav")
    }
    assert len(WORDS[35]) == 35
    assert len(set(WORDS[35])) == 35
    assert set(WORDS[10]) <= set(WORDS[35])
    assert " ".join(WORDS[10]) == "down go left no off on right stop up yes"


def test_a_lower_rate_keeps_low_tones_and_loses_high_ones(tmp_path: Path) -> None:
    times = np.arange(8000) / 8000
    low, high = np.sin(2 * np.pi * 100 * times), np.sin(2 * np.pi * 1700 * times)
    for name, tones in (("low", low), ("both", low + high)):
        samples = (8000 * tones).astype("<i2")
        (tmp_path / f"{name}.wav").write_bytes(cases_signal.wav(samples, 8000))
        found = _wave(tmp_path / f"{name}.wav", 8000, 2000)
        assert len(found) == 2000
        expected = torch.from_numpy(math.sqrt(2) * low[::4]).float()
        # The filter rings at both ends, and lets a thousandth of the high tone through.
        assert (found - expected)[50:-50].abs().max() < 0.02
    assert abs(found.mean().item()) < 1e-6


def test_silence_stays_silence(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(cases_signal.wav(np.full(99, 3, "<i2"), 8000))
    assert (_wave(tmp_path / "a.wav", 8000, 8000) == 0).all()


# Files of another format


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no gzip", "is no gzip file"),
        (gzip.compress(b"abc", mtime=0), "has 3 bytes, and a header alone has 8"),
        (cases_signal.idx(np.zeros((2, 3), np.uint8)), "begins with 0x0802, not 0x0801"),
        (
            gzip.compress(gzip.decompress(cases_signal.idx(np.zeros(5, np.uint8)))[:-1], mtime=0),
            r"has 4 values, and its header says \(5,\)",
        ),
    ],
)
def test_a_wrong_idx_file_raises(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "labels.gz").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        idx.read_labels(tmp_path / "labels.gz")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"RIFF", "is no wave file"),
        (b"", "is no wave file"),
        (cases_signal.wav(np.zeros(9, "<i2"), 16000), "has 1 channels of 16 bits at 16000 Hz, not"),
        (cases_signal.wav(np.zeros(8, "<i2"), 8000, 2), "has 2 channels"),
        (cases_signal.wav(np.zeros(0, "<i2"), 8000), "has no samples"),
    ],
)
def test_a_wrong_wave_file_raises(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        recordings.read_wave(tmp_path / "a.wav", 8000)


def test_recordings_of_another_name_or_none_raise(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no recordings of train"):
        recordings.list_fsdd(tmp_path)
    (tmp_path / "7_theo.wav").touch()
    with pytest.raises(ValueError, match=r"7_theo\.wav is not named <digit>_<speaker>_<index>"):
        recordings.list_fsdd.__wrapped__(tmp_path)


def test_a_list_that_names_a_file_that_is_not_there_raises(tmp_path: Path) -> None:
    (tmp_path / "validation_list.txt").write_text("go/a_nohash_0.wav\n")
    (tmp_path / "testing_list.txt").write_text("")
    with pytest.raises(ValueError, match="has no folder of the word 'go'"):
        recordings.list_speech_commands(tmp_path, ("go",))
    (tmp_path / "go").mkdir()
    with pytest.raises(ValueError, match=r"go/a_nohash_0\.wav is held out by a list, but is not"):
        recordings.list_speech_commands(tmp_path, ("go",))


# Bad fields


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("ett", {"horizon": 0}, "horizon must be an integer of at least 1, not 0"),
        ("ett", {"length": 2881}, "length must be at most the 2880 hours of val and test"),
        ("ett", {"horizon": 8640}, "horizon must be at most the 8640 hours of train less length"),
        ("temperatures", {"length": 1753}, "length must be at most the 1752 hours"),
        ("jsb", {"resolution": "8th"}, "resolution must be one of quarter, 16th, not '8th'"),
        ("smnist", {"length": 28}, r"one of \[49, 196, 784, 3136, 12544\], not 28"),
        ("smnist", {"n_train": 55001}, "n_train must be at most 55000, not 55001"),
        ("smnist", {"n_train": 0}, "n_train must be an integer of at least 1, not 0"),
        ("psmnist", {"permutation": "x"}, "must be one of bit_reversal, random, not 'x'"),
        ("spoken_digits", {"rate": 16000}, r"one of \[1000, 2000, 4000, 8000\], not 16000"),
        ("speech_commands", {"n_words": 12}, r"n_words must be one of \[10, 35\], not 12"),
        ("csv_classification", {"path": ""}, "path must name a file, not ''"),
        ("csv_classification", {"path": "x", "val_share": 0.5}, "val_share must be above 0 and"),
        ("csv_classification", {"path": "x", "test_share": "1"}, "test_share must be above 0"),
    ],
)
def test_bad_fields_raise_and_say_what_is_valid(
    name: str, fields: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        TASKS[name](**fields)  # type: ignore[arg-type]


def test_fingerprints_are_known_without_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQBENCH_DATA", "/nowhere")
    names = ("ett", "jsb", "smnist", "spoken_digits", "speech_commands", "temperatures")
    found = [TASKS[name]().fingerprint() for name in names]
    assert all(len(fingerprint) == 64 for fingerprint in found)
    assert len(set(found)) == len(found)
