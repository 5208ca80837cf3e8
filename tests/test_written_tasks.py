"""Pronunciations and translations: scores are the field's, and splits are by what is read."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import lzma
import random
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sacrebleu.metrics import BLEU, CHRF

from tasks.data import cmudict, packages
from tasks.data.errors import DataError
from tasks.g2p import G2p, edit_distance
from tasks.task import SPLITS, UNSCORED, Batch, MissingPackageError, Split, Task
from tasks.translate import Translate
from tests.cases_labelling import Known

SACREBLEU = 1e-12  # the same integers in the same formula
COUNTED = 1e-6  # sums are float32


def everything(task: Task, split: Split) -> Batch:
    return task.examples(split, 0, torch.arange(task.size(split)))


def words_of(batch: Batch) -> list[str]:
    assert batch.lengths is not None
    return [
        "".join(cmudict.LETTERS[letter] for letter in row[:n])
        for row, n in zip(batch.inputs.tolist(), batch.lengths.tolist(), strict=True)
    ]


def summed(task: Task, written: torch.Tensor, batch: Batch) -> dict[str, float]:
    """Scores from the counts of parts of a batch, finished once."""
    sums: dict[str, torch.Tensor] = {}
    for part in torch.arange(len(batch)).split(7):
        lengths = None if batch.lengths is None else batch.lengths[part]
        cut = Batch(batch.inputs[part], batch.targets[part], lengths)
        for name, (total, count) in task.score_written(written[part], cut).items():
            parts = torch.cat([total.reshape(-1), count.reshape(1)]).double()
            sums[name] = sums[name] + parts if name in sums else parts
    finish = {metric.name: metric.finish for metric in task.metrics}
    return {
        name: finish[name](parts[:-1].tolist(), float(parts[-1])) for name, parts in sums.items()
    }


# Pronunciations


def distance_by_recursion(one: list[int], other: list[int]) -> int:
    if not one or not other:
        return len(one) + len(other)
    if one[0] == other[0]:
        return distance_by_recursion(one[1:], other[1:])
    return 1 + min(
        distance_by_recursion(one[1:], other),
        distance_by_recursion(one, other[1:]),
        distance_by_recursion(one[1:], other[1:]),
    )


def test_edit_distance_is_the_least_number_of_changes() -> None:
    rng = random.Random(2)
    for _ in range(60):
        one, other = ([rng.randrange(3) for _ in range(rng.randrange(6))] for _ in range(2))
        assert edit_distance(one, other) == distance_by_recursion(one, other)


def test_every_word_is_in_one_split_with_all_its_pronunciations(known: Known) -> None:
    for stress in (False, True):
        task = G2p(stress=stress, n_val=10**6, n_test=10**6)
        phones = sorted(
            {
                p if stress else p.rstrip("012")
                for ways in known.phones.values()
                for w in ways
                for p in w
            }
        )
        assert task.n_outputs == len(phones) + 1
        seen: dict[str, list[tuple[str, ...]]] = {}
        words = {}
        for split in SPLITS:
            batch = everything(task, split)
            words[split] = words_of(batch)
            for word, row in zip(words[split], batch.targets.tolist(), strict=True):
                answer = row[: row.index(task.end_symbol)]
                seen.setdefault(word, []).append(tuple(phones[symbol] for symbol in answer))
        assert not set(words["train"]) & set(words["val"] + words["test"])
        assert not set(words["val"]) & set(words["test"])
        assert len(words["val"]) == len(set(words["val"])) > 20
        expected = {
            word: list(
                dict.fromkeys(tuple(p if stress else p.rstrip("012") for p in way) for way in ways)
            )
            for word, ways in known.phones.items()
        }
        held_out = set(words["val"] + words["test"])
        assert seen == {w: e[:1] if w in held_out else e for w, e in expected.items()}


def test_longer_words_are_left_out_and_the_first_held_out_are_kept(known: Known) -> None:
    whole, short = G2p(n_val=10**6), G2p(length=5, n_val=7)
    assert short.size("val") == 7
    kept = [word for word in words_of(everything(whole, "val")) if len(word) <= 5]
    assert words_of(everything(short, "val")) == kept[:7]
    assert kept == sorted(kept, key=lambda word: hashlib.sha256(word.encode()).digest())
    assert short.n_symbols == 1 + max(
        len(way) for word, ways in known.phones.items() if len(word) <= 5 for way in ways
    )


def test_the_error_rate_is_that_of_the_closest_pronunciation(known: Known) -> None:
    task = G2p(n_test=10**6)
    batch = everything(task, "test")
    rng = random.Random(3)
    names = [*sorted({"AA", "B", "CH"}), "<end>"]
    written, errors, n_phones, right = [], 0, 0, 0
    several = 0
    for word in words_of(batch):
        ways = [[p.rstrip("012") for p in way] for way in known.phones[word]]
        said = list(rng.choice(ways))
        if rng.random() < 0.6:
            said[rng.randrange(len(said))] = rng.choice(names[:3])
        if rng.random() < 0.3 and len(said) + 1 < task.n_symbols:
            said.insert(0, rng.choice(names[:3]))
        # The closest; of two as close, the shorter one.
        best = min(ways, key=lambda way: (edit_distance(said, way), len(way)))
        several += best != ways[0]
        errors += edit_distance(said, best)
        n_phones += len(best)
        right += said in ways
        row = [names.index(phone) for phone in [*said, "<end>"]]
        written.append(row + [UNSCORED] * (task.n_symbols - len(row)))
    assert several > 2
    scores = summed(task, torch.tensor(written), batch)
    assert scores["phone_error_rate"] == pytest.approx(errors / n_phones, abs=COUNTED)
    assert scores["word_accuracy"] == pytest.approx(right / len(batch), abs=COUNTED)
    assert 0 < right < len(batch)


def test_symbols_go_on_where_no_end_was_written(known: Known) -> None:
    task = G2p()
    batch = everything(task, "test")
    first = Batch(batch.inputs[:1], batch.targets[:1], batch.lengths[:1])  # type: ignore[index]
    endless = torch.zeros(1, task.n_symbols, dtype=torch.int64)
    ways = [[p.rstrip("012") for p in way] for way in known.phones[words_of(first)[0]]]
    counts = task.score_written(endless, first)["phone_error_rate"]
    expected = min(
        (edit_distance([0] * task.n_symbols, [["AA", "B", "CH"].index(p) for p in w]), len(w))
        for w in ways
    )
    assert (counts.sum.item(), counts.count.item()) == expected


def test_the_dictionary_is_read_from_the_package_without_importing_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if importlib.util.find_spec("cmudict") is None:
        pytest.skip("cmudict is not installed")
    monkeypatch.setenv("SEQBENCH_DATA", str(tmp_path))
    task = G2p()
    assert task.n_outputs == 40
    assert replace(task, stress=True).n_outputs == 70
    assert sum(len(task._pairs(split)) for split in SPLITS) > 124_924
    assert "cmudict" not in sys.modules
    assert task.fingerprint().startswith("81917843c7f44ce2")
    known_ways = task._dictionary().pronunciations
    assert len(known_ways) == 124_926
    assert known_ways["knight"] == (("N", "AY", "T"),)


@pytest.mark.parametrize("line", ["word", "word n AY1", "word N  AY7"])
def test_a_wrong_line_of_the_dictionary_is_named(line: str, tmp_path: Path) -> None:
    file = tmp_path / "cmudict.dict"
    file.write_text(f"a AH0\n{line}\n")
    with pytest.raises(
        DataError, match=rf"cmudict\.dict, line 2 is no word and its phones: '{line}'"
    ):
        cmudict.read(file, False)


# Translations


@pytest.mark.parametrize("unit", ["bytes", "chars"])
def test_pairs_are_those_of_the_file_and_split_by_their_source(known: Known, unit: str) -> None:
    task = Translate(unit=unit, n_val=10**6, n_test=10**6)  # type: ignore[arg-type]
    found = []
    for split in SPLITS:
        batch = everything(task, split)
        sources = [row[:n] for row, n in zip(batch.inputs, batch.lengths, strict=True)]  # type: ignore[arg-type]
        texts = [task.read_out(row[None])[0] for row in sources]
        found += list(zip(texts, task.read_out(batch.targets), strict=True))
    assert sorted(found) == sorted(known.verses)
    assert {len(known.verses)} == {len(found)}


def test_the_same_source_is_in_one_split(tmp_path: Path) -> None:
    file = tmp_path / "pairs.tsv"
    file.write_text("".join(f"s{n % 300}\tt{n}\n" for n in range(900)))
    task = Translate(path=str(file), n_val=10**6, n_test=10**6)
    assert task.data_sets == ()
    sources = {
        split: {bytes(row) for row in everything(task, split).inputs.tolist()} for split in SPLITS
    }
    assert sum(map(len, sources.values())) == 300
    assert len(set.union(*sources.values())) == 300
    assert sum(task.size(split) for split in SPLITS) == 900


@pytest.mark.parametrize("unit", ["bytes", "chars"])
def test_scores_are_sacrebleus_on_the_whole_corpus(known: Known, unit: str) -> None:
    task = Translate(unit=unit, n_test=10**6)  # type: ignore[arg-type]
    batch = everything(task, "test")
    rng = torch.Generator().manual_seed(0)
    noise = torch.randint(task.n_outputs - 1, batch.targets.shape, generator=rng)
    wrong = (torch.rand(batch.targets.shape, generator=rng) < 0.05) & (batch.targets >= 0)
    written = torch.where(wrong, noise, batch.targets)
    written[3] = UNSCORED  # nothing at all
    hypotheses, references = task.read_out(written), task.read_out(batch.targets)
    assert references[:3] != hypotheses[:3]
    scores = summed(task, written, batch)
    expected = {
        "chrf": CHRF().corpus_score(hypotheses, [references]).score / 100,
        "bleu": BLEU().corpus_score(hypotheses, [references]).score / 100,
    }
    for name, value in expected.items():
        assert scores[name] == pytest.approx(value, abs=SACREBLEU)
        assert 0.1 < value < 0.99


def test_what_is_no_utf_8_is_read_out_all_the_same() -> None:
    task = Translate()
    assert task.read_out(torch.tensor([[0xC3, 0xA9, 0xC3, 256, UNSCORED]])) == ["é\ufffd"]


def test_pairs_that_are_too_long_are_left_out(known: Known) -> None:
    task = Translate(length=20, max_answer=16)
    kept = [(a, b) for a, b in known.verses if len(a.encode()) <= 20 and len(b.encode()) <= 16]
    assert 0 < len(kept) < len(known.verses)
    assert sum(len(task._pairs(split)) for split in SPLITS) == len(kept)
    with pytest.raises(
        ValueError, match=r"no pair of .* at most length 2 and max_answer 256 bytes"
    ):
        Translate(length=2).size("val")


def test_a_table_may_be_packed_and_its_columns_chosen(known: Known, tmp_path: Path) -> None:
    table = "".join(f"{b}\t{n}\t{a}\r\n" for n, (a, b) in enumerate(known.verses)).encode()
    for name, pack in (("t.tsv", bytes), ("t.tsv.gz", gzip.compress), ("t.tsv.xz", lzma.compress)):
        (tmp_path / name).write_bytes(pack(table))
        task = Translate(path=str(tmp_path / name), source_column=2, target_column=0)
        ours = everything(task, "test")
        assert torch.equal(ours.targets, everything(Translate(), "test").targets)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\tb\nc\n", r"t\.tsv, line 2 has 1 columns, not 2"),
        (b"a\tb\na\t \n", r"t\.tsv, line 2 has an empty column -1"),
        (b"a\nb\n", r"t\.tsv has 1 columns, and source_column is -2"),
        (b"\n\n", r"t\.tsv has no lines"),
        (b"\xff\tb\n", r"t\.tsv is not UTF-8"),
    ],
)
def test_a_wrong_table_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        Translate(path=str(tmp_path / "t.tsv")).size("val")


def test_a_broken_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.xz").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"t\.xz cannot be read"):
        Translate(path=str(tmp_path / "t.xz")).size("val")


def test_translation_needs_sacrebleu_before_anything_is_trained(
    known: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(
        MissingPackageError, match=r"needs sacrebleu: pip install 'seqbench\[data\]'"
    ):
        Translate().examples("train", 0, torch.arange(2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: G2p(stress=1), "stress must be true or false, not 1"),
        (lambda: G2p(n_val=0), "n_val must be an integer of at least 1, not 0"),
        (lambda: Translate(unit="byte"), "no unit 'byte'; did you mean 'bytes'"),
        (lambda: Translate(source_column=-1), "must differ, both are -1"),
        (lambda: Translate(target_column="es"), "target_column must be an integer, not 'es'"),
        (lambda: Translate(max_answer=0), "max_answer must be an integer of at least 1, not 0"),
    ],
)
def test_wrong_fields_raise(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
