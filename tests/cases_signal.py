"""Pixels, audio, forecasts and one's own rows, for the laws of a task, on small files of the true
formats: examples, lengths, right answers.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import struct
import wave
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from tasks import TASKS
from tasks.data import sets
from tasks.data.hourly import ETT_COLUMNS
from tasks.speech_commands import WORDS
from tasks.task import Task
from tests.archives import tarred, zipped

TrueFiles: TypeAlias = Callable[..., Path]
"""The fixture `true_files`."""
OWN_ROWS = "rows.csv"
"""Sequences of one's own, in the folder in which tests run."""
REQUIRED: dict[str, dict[str, object]] = {"csv_classification": {"path": OWN_ROWS}}
"""Fields without a default."""


def made(name: str, **fields: object) -> Task:
    return TASKS[name](**fields, **REQUIRED.get(name, {}))  # type: ignore[arg-type]


EXAMPLES: dict[str, Task] = {
    "csv_classification": made("csv_classification", length=21),
    "ett": made("ett", length=33, horizon=3),
    "jsb": made("jsb", length=23),
    "psmnist": made("psmnist", length=196),
    "smnist": made("smnist", length=196),
    "speech_commands": made("speech_commands", length=401, rate=8000),
    "spoken_digits": made("spoken_digits", length=301),
    "temperatures": made("temperatures", length=23),
}
LENGTHS: dict[str, list[int]] = {
    "csv_classification": [1, 17, 65],
    "ett": [1, 63, 700],
    "jsb": [1, 20, 200],
    "psmnist": [49, 196, 784, 3136],
    "smnist": [49, 196, 784, 3136],
    "speech_commands": [1, 100, 16000],
    "spoken_digits": [1, 100, 9000],
    "temperatures": [1, 63, 500],
}
UNTRAINED_AT_CHANCE = BALANCED = ["psmnist", "smnist", "speech_commands", "spoken_digits"]
"""Classifications whose chance is one in K."""
LARGEST: dict[str, float] = {
    "csv_classification": 6,  # a normal variable
    "ett": 12,  # a random walk goes far from where it was in train
    "speech_commands": 20,  # a wave's peaks
    "spoken_digits": 20,
    "temperatures": 5,
}
"""How large a standardised value may be."""


def perfect_notes(targets: Tensor) -> Tensor:
    """Logits that are sure of the right notes."""
    return 200 * targets.nan_to_num() - 100


PERFECT: dict[str, Callable[[Tensor], Tensor]] = {
    "ett": torch.nan_to_num,
    "jsb": perfect_notes,
    "temperatures": torch.nan_to_num,
}
"""Right answers of tasks that do not classify."""


def idx(values: npt.NDArray[np.uint8]) -> bytes:
    """An idx file of bytes, gzipped."""
    header = struct.pack(f">{1 + values.ndim}I", 0x0800 + values.ndim, *values.shape)
    return gzip.compress(header + values.tobytes(), compresslevel=1, mtime=0)


def wav(samples: npt.NDArray[np.int16], rate: int, channels: int = 1) -> bytes:
    """A wave file of 16-bit samples."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return buffer.getvalue()


def hourly_table(n_hours: int, seed: int) -> bytes:
    """A table as ETTh1.csv: random walks that are drawn back."""
    rng = np.random.default_rng(seed)
    noise, walk = rng.standard_normal((n_hours, 7)), np.zeros((n_hours, 7))
    for hour in range(1, n_hours):
        walk[hour] = 0.98 * walk[hour - 1] + noise[hour]
    times = np.datetime64("2016-07-01T00:00:00") + np.arange(n_hours) * np.timedelta64(1, "h")
    rows = [
        ",".join([str(time).replace("T", " "), *map(repr, row)])
        for time, row in zip(times, (20 + 3 * walk).tolist(), strict=True)
    ]
    return "\n".join([",".join(ETT_COLUMNS), *rows, ""]).encode()


def _mnist() -> dict[str, bytes]:
    """As many images as there are: nearly black, each with noise of its own in one corner."""
    rng = np.random.default_rng(1)
    files = {}
    for name, n_images in (("train", 60000), ("t10k", 10000)):
        images = np.zeros((n_images, 28, 28), np.uint8)
        images[:, :4, :4] = rng.integers(0, 256, (n_images, 4, 4))
        labels = rng.integers(0, 10, n_images).astype(np.uint8)
        files[f"{name}-images-idx3-ubyte.gz"] = idx(images)
        files[f"{name}-labels-idx1-ubyte.gz"] = idx(labels)
    return files


def _noise(rng: np.random.Generator, n_samples: int) -> npt.NDArray[np.int16]:
    return rng.normal(40, 900, n_samples).astype("<i2")


def _fsdd() -> dict[str, bytes]:
    rng = np.random.default_rng(2)
    folder = "free-spoken-digit-dataset-1.0.10"
    members = {f"{folder}/README.md": b"Spoken digits"}
    for digit in range(10):
        for speaker in ("george", "lucas"):
            for index in range(25):
                name = f"{folder}/recordings/{digit}_{speaker}_{index}.wav"
                members[name] = wav(_noise(rng, int(rng.integers(150, 500))), 8000)
    return {f"{folder}.zip": zipped(members)}


def _speech_commands() -> dict[str, bytes]:
    rng = np.random.default_rng(3)
    members: dict[str, bytes] = {"_background_noise_/tap.wav": wav(_noise(rng, 20000), 16000)}
    held_out: dict[str, list[str]] = {"validation_list.txt": [], "testing_list.txt": []}
    for word in WORDS[35]:
        for speaker in range(9):
            name = f"{word}/{speaker:08x}_nohash_0.wav"
            members[name] = wav(_noise(rng, int(rng.integers(700, 1000))), 16000)
            if speaker < 4:
                held_out["validation_list.txt" if speaker % 2 else "testing_list.txt"].append(name)
    members |= {name: "".join(f"{path}\n" for path in of).encode() for name, of in held_out.items()}
    return {"speech_commands_v0.02.tar.gz": tarred(members)}


def _jsb() -> dict[str, bytes]:
    rng = np.random.default_rng(4)
    files = {}
    for resolution in ("quarter", "16th"):
        content = {
            split: [
                [rng.integers(40, 90, 4).tolist() for _ in range(rng.integers(20, 70))]
                for _ in range(n_pieces)
            ]
            for split, n_pieces in (("train", 60), ("valid", 40), ("test", 41))
        }
        files[f"jsb-chorales-{resolution}.json"] = json.dumps(content).encode()
    return files


CONTENTS: dict[str, Callable[[], dict[str, bytes]]] = {
    "ett": lambda: {"ETTh1.csv": hourly_table(14500, 5)},
    "fsdd": _fsdd,
    "jsb": _jsb,
    "mnist": _mnist,
    "speech_commands": _speech_commands,
}


def own_rows() -> str:
    """Three labels, sequences of 5 to 30 values."""
    rng = np.random.default_rng(6)
    lines = ["label," + ",".join(map(str, range(30)))]
    for row in range(600):
        n_values = int(rng.integers(5, 31))
        values = [repr(value) for value in rng.normal(3, 7, n_values).tolist()]
        lines.append(",".join(["cba"[row % 3], *values, *[""] * (30 - n_values)]))
    return "\n".join([*lines, ""])


def write(root: Path) -> None:
    """Put all data sets, small, into the folder of a cache, and one's own rows beside them."""
    for name, contents in CONTENTS.items():
        (root / name).mkdir(parents=True)
        for file, content in contents().items():
            (root / name / file).write_bytes(content)
    (root / OWN_ROWS).write_text(own_rows(), encoding="utf-8")


def use(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make that folder the current one and the cache of data sets, known by their checksums."""
    monkeypatch.setenv("SEQBENCH_DATA", str(root))
    monkeypatch.chdir(root)
    for name in CONTENTS:
        known = sets.DATA_SETS[name]
        files = tuple(
            replace(file, bytes=None, sha256=_sha256(root / name / file.name))
            for file in known.files
        )
        monkeypatch.setitem(sets.DATA_SETS, name, replace(known, files=files))


@cache
def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
