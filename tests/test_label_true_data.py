"""The true files, where SEQBENCH_TEST_DATA has them: their sizes, and the figures quoted."""

from __future__ import annotations

import lzma
import os
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch

from tasks.ner import Ner
from tasks.pos import Pos
from tasks.task import SPLITS, UNSCORED
from tasks.translate import Translate

QUOTED = 5e-4  # figures in docstrings have three digits

pytestmark = pytest.mark.slow


def taken(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, files: dict[str, str]) -> None:
    """Put files of the test data, unpacked where the set has them so, into a cache."""
    root = Path(os.environ.get("SEQBENCH_TEST_DATA", ""))
    if "SEQBENCH_TEST_DATA" not in os.environ:
        pytest.skip("SEQBENCH_TEST_DATA is not set")
    (folder / name).mkdir()
    for source, target in files.items():
        if not (root / source).is_file():
            pytest.skip(f"SEQBENCH_TEST_DATA has no {source}")
        if source.endswith(".xz") and not target.endswith(".xz"):
            (folder / name / target).write_bytes(lzma.decompress((root / source).read_bytes()))
        else:
            shutil.copy(root / source, folder / name / target)
    monkeypatch.setenv("SEQBENCH_DATA", str(folder))


def test_the_treebank(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = [f"en_ewt-ud-{part}.conllu" for part in ("train", "dev", "test")]
    files = {f"ud_english_ewt/{name}.xz": name for name in names}
    taken(monkeypatch, tmp_path, "ud_english_ewt", files)
    corpus = Pos().read()
    sentences = {split: list(corpus.sentences(split)) for split in SPLITS}
    assert [len(found) for found in sentences.values()] == [12544, 2001, 2077]
    n_words = [sum(len(s.words) for s in found) for found in sentences.values()]
    assert n_words == [204577, 25147, 25094]
    for length in (20, 64):
        task = Pos(length=length)
        for split, n in zip(SPLITS, n_words, strict=True):
            batch = task.examples(split, 0, torch.arange(task.size(split)))
            assert (batch.targets != UNSCORED).sum() == n
    assert Pos().metrics[0].baseline == pytest.approx(0.862, abs=5e-4)
    shares = Counter(label for s in sentences["test"] for label in s.labels)
    assert shares.most_common(1)[0] == ("NOUN", pytest.approx(0.16 * 25094, rel=0.04))


def test_rare_entities(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    base = "ner_open/WNUT17/CONLL-format/data"
    names = {
        f"{base}/train/wnut17train.conll": "wnut17train.conll",
        f"{base}/dev/emerging.dev.conll": "emerging.dev.conll",
        f"{base}/test/emerging.test.annotated": "emerging.test.annotated",
    }
    taken(monkeypatch, tmp_path, "wnut17", names)
    corpus = Ner(data_set="wnut17").read()
    # Derczynski et al. 2017, tables 3 and 4.
    assert [len(list(corpus.sentences(split))) for split in SPLITS] == [3394, 1009, 1287]
    n_entities = [
        sum(label.startswith("B-") for s in corpus.sentences(split) for label in s.labels)
        for split in SPLITS
    ]
    assert n_entities == [1975, 836, 1079]
    longest = max(
        len(run)
        for split in SPLITS
        for sentence in corpus.sentences(split)
        for run in "".join(label[0] for label in sentence.labels).replace("O", "B").split("B")
    )
    assert longest < 64


def test_the_verses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("sacrebleu")
    name = "web_rv1909.tsv.xz"
    taken(monkeypatch, tmp_path, "bible_en_es", {f"bible_en_es/{name}": name})
    task = Translate()
    n_kept = sum(len(task._pairs(split)) for split in SPLITS)
    assert len(task._text().pairs) == 31061
    assert n_kept == pytest.approx(0.97 * 31061, rel=0.002)
    batch = task.examples("test", 0, torch.arange(1000))
    copied = torch.where(torch.arange(256) < batch.lengths[:, None], batch.inputs, UNSCORED)
    counts = task.score_written(copied, batch)
    finish = {metric.name: metric.finish for metric in task.metrics}
    scores = {k: finish[k](total.tolist(), float(count)) for k, (total, count) in counts.items()}
    assert scores == {
        "chrf": pytest.approx(0.175, abs=QUOTED),
        "bleu": pytest.approx(0.003, abs=QUOTED),
    }
