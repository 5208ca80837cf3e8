"""Labels of words: nothing is lost in windows, F1 is seqeval's, readers say what is wrong."""

from __future__ import annotations

import importlib.util
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from seqeval.metrics import f1_score, precision_score, recall_score

from tasks.conllu_file import ConlluFile
from tasks.data import packages
from tasks.data.cache import MissingDataError
from tasks.data.columns import read_one, read_splits
from tasks.data.errors import DataError
from tasks.data.hashing import split_of
from tasks.data.word_windows import cut
from tasks.ner import Ner
from tasks.pos import Pos
from tasks.task import SPLITS, UNSCORED, Batch, MissingPackageError, Split
from tasks.word_labelling import WordLabelling
from tests.cases_labelling import DOCUMENT, Known, conll, conllu

SEQEVAL = 1e-6  # sums are float32
SETTINGS = [
    {"length": 1},
    {"length": 7},
    {"length": 64},
    {"length": 7, "unit": "bytes"},
    {"length": 200, "unit": "bytes"},
    {"length": 50, "context": "document"},
    {"length": 90, "context": "document", "unit": "bytes"},
]


def everything(task: WordLabelling, split: Split) -> Batch:
    return task.examples(split, 0, torch.arange(task.size(split)))


# Windows


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("split", SPLITS)
def test_every_word_is_scored_once_and_in_order(
    known: Known, settings: dict[str, object], split: Split
) -> None:
    task = Pos(**settings)  # type: ignore[arg-type]
    batch = everything(task, split)
    found = [task.labels[label] for label in batch.targets.flatten().tolist() if label != UNSCORED]
    assert found == [label for _, labels in known.pos[split] for label in labels]


@pytest.mark.parametrize("settings", SETTINGS)
def test_labels_stand_at_their_words(known: Known, settings: dict[str, object]) -> None:
    """By reading every example back into words."""
    task = Pos(**settings)  # type: ignore[arg-type]
    batch = everything(task, "train")
    counts: dict[str, int] = {}
    for words, _ in known.pos["train"]:
        for word in words:
            counts[word] = counts.get(word, 0) + 1
    wanted = [word for words, _ in known.pos["train"] for word in words]
    names = {}
    for row, labels, length in zip(batch.inputs, batch.targets, batch.lengths, strict=True):
        tokens = row[:length].tolist()
        if task.unit == "words":
            assert (labels[:length] != UNSCORED).all()
            for token in tokens:
                word = wanted.pop(0)
                assert (token == 0) == (counts.get(word, 0) < task.min_count)
                assert names.setdefault(token, word) == word or token == 0
            continue
        text = bytes(tokens)
        ends = [place for place, label in enumerate(labels.tolist()) if label != UNSCORED]
        read = text.replace(b"\n", b" ").split(b" ")
        assert len(read) == len(ends)
        for word, end in zip(read, ends, strict=True):
            assert wanted.pop(0).encode()[-task.length :] == word
            assert text[: end + 1].endswith(word)
            assert text[end + 1 : end + 2] in (b"", b" ", b"\n")
    assert not wanted


def test_a_document_is_read_in_as_few_whole_sentences_as_fit(known: Known) -> None:
    task = Pos(length=60, context="document")
    lengths = [len(words) for words, _ in known.pos["train"]]
    expected = []
    for first in range(0, len(lengths), DOCUMENT):
        room = 0
        for length in lengths[first : first + DOCUMENT]:
            if length > room:
                expected.append(0)
                room = 60
            expected[-1] += length
            room -= length
    assert everything(task, "train").lengths.tolist() == expected  # type: ignore[union-attr]


def test_no_entity_is_cut_that_an_example_has_room_for(known: Known) -> None:
    for length in (4, 5, 12):
        task = Ner(length=length)
        batch = everything(task, "test")
        first = [task.labels[label] for label in batch.targets[:, 0].tolist()]
        assert not any(label.startswith("I-") for label in first)
        assert task.size("test") > Ner(length=64).size("test")


def test_cut_by_hand() -> None:
    between, within, entity = 2, 1, 0
    breaks = [between, within, within, entity, within, between, within]
    assert list(cut([1] * 7, breaks, 7)) == [(0, 7)]
    assert list(cut([1] * 7, breaks, 6)) == [(0, 5), (5, 7)]
    assert list(cut([1] * 7, breaks, 3)) == [(0, 2), (2, 5), (5, 7)]
    assert list(cut([1, 1, 1], [between, entity, entity], 2)) == [(0, 2), (2, 3)]
    assert list(cut([9, 1], [between, within], 2)) == [(0, 1), (1, 2)]


# Entities


@pytest.mark.parametrize(
    "settings", [{"length": 64}, {"length": 12}, {"length": 512, "unit": "bytes"}]
)
def test_f1_is_seqevals_on_the_whole_test_set(known: Known, settings: dict[str, object]) -> None:
    task = Ner(**settings)  # type: ignore[arg-type]
    batch = everything(task, "test")
    rng = torch.Generator().manual_seed(1)
    noise = torch.randint(task.n_outputs, batch.targets.shape, generator=rng)
    wrong = torch.rand(batch.targets.shape, generator=rng) < 0.3
    answers = torch.where(wrong, noise, batch.targets.clamp(min=0))
    outputs = torch.nn.functional.one_hot(answers, task.n_outputs).float()
    sums = {metric.name: torch.zeros(2, dtype=torch.float64) for metric in task.metrics}
    for part in torch.arange(len(batch)).split(7):
        for name, counts in task.score(outputs[part], batch.targets[part]).items():
            sums[name] += torch.stack(list(counts))

    # Whole sentences again, with their tags as they were written.
    written = iter(
        task.labels[answer]
        for answer, label in zip(
            answers.flatten().tolist(), batch.targets.flatten().tolist(), strict=True
        )
        if label != UNSCORED
    )
    true = [tags for _, tags in known.ner["test"]]
    predicted = [[next(written) for _ in tags] for tags in true]
    if settings == {"length": 12}:  # a prediction may be cut where no true entity is
        rows = zip(answers.tolist(), batch.targets.tolist(), strict=True)
        cut_rows = [[(a, t) for a, t in zip(*row, strict=True) if t != UNSCORED] for row in rows]
        predicted = [[task.labels[a] for a, _ in row] for row in cut_rows]
        true = [[task.labels[t] for _, t in row] for row in cut_rows]
    for name, reference in [
        ("f1", f1_score),
        ("precision", precision_score),
        ("recall", recall_score),
    ]:
        found = float(sums[name][0] / sums[name][1])
        assert found == pytest.approx(reference(true, predicted), abs=SEQEVAL)
        assert 0.1 < found < 0.9


def test_cutting_changes_no_true_entity(known: Known) -> None:
    def true(task: Ner) -> float:
        batch = everything(task, "test")
        outputs = torch.nn.functional.one_hot(batch.targets.clamp(min=0), task.n_outputs).float()
        return float(task.score(outputs, batch.targets)["recall"].count)

    n_true = sum(tag.startswith("B-") for _, tags in known.ner["test"] for tag in tags)
    assert true(Ner(length=64)) == true(Ner(length=5)) == n_true
    assert true(Ner(length=200, unit="bytes")) == n_true


def test_tags_are_read_as_iob2(known: Known) -> None:
    corpus = Ner().read()
    for split in SPLITS:
        found = [(list(s.words), list(s.labels)) for s in corpus.sentences(split)]
        assert found == known.ner[split]
        sizes = [len(document) for document in corpus.documents[split]]
        assert sum(sizes) == len(found)
        assert set(sizes[:-1]) == {DOCUMENT}


# Baselines


def test_the_baseline_is_the_commonest_label_of_each_word(known: Known) -> None:
    labels_of: dict[str, list[str]] = {}
    for words, labels in known.pos["train"]:
        for word, label in zip(words, labels, strict=True):
            labels_of.setdefault(word, []).append(label)
    every = sorted(label for found in labels_of.values() for label in found)
    right = total = 0
    for words, labels in known.pos["test"]:
        for word, label in zip(words, labels, strict=True):
            choices = sorted(labels_of.get(word, every))
            right += max(choices, key=choices.count) == label
            total += 1
    (metric,) = Pos().metrics
    assert metric.baseline == right / total


# One's own files


def test_three_files_of_ones_own_are_the_same_data(
    known: Known, labelled: tuple[Path, Known]
) -> None:
    folder = labelled[0] / "ud_english_ewt"
    paths = [str(folder / f"en_ewt-ud-{part}.conllu") for part in ("train", "dev", "test")]
    own = ConlluFile(path=paths[0], val_path=paths[1], test_path=paths[2])
    assert own.fingerprint() == Pos().fingerprint()
    assert own.data_sets == ()
    assert torch.equal(everything(own, "val").targets, everything(Pos(), "val").targets)
    xpos = replace(own, column="xpos")
    assert xpos.labels == tuple(sorted({f"X{label[0]}" for label in Pos().labels}))


def test_one_file_is_split_by_a_hash_of_the_sentence(known: Known, tmp_path: Path) -> None:
    sentences = [pair for split in SPLITS for pair in known.pos[split]] * 2
    random.Random(0).shuffle(sentences)
    file = tmp_path / "all.conllu"
    file.write_text(conllu(sentences), encoding="utf-8")
    corpus = ConlluFile(path=str(file)).read()
    found = {split: [list(s.words) for s in corpus.sentences(split)] for split in SPLITS}
    assert sorted(words for split in SPLITS for words in found[split]) == sorted(
        words for words, _ in sentences
    )
    texts = {split: {" ".join(words) for words in found[split]} for split in SPLITS}
    assert not texts["train"] & texts["test"]
    assert not texts["val"] & (texts["train"] | texts["test"])
    for split in SPLITS:
        assert all(split_of("\n".join(words)) == split for words in found[split])

    file.write_text(conllu(sentences[:200]), encoding="utf-8")
    assert ConlluFile(path=str(file)).fingerprint() != corpus.sha256
    again = ConlluFile(path=str(file)).read()
    assert sum(len(list(again.sentences(split))) for split in SPLITS) == 200


def test_entities_of_ones_own_in_both_formats(known: Known, tmp_path: Path) -> None:
    sentences = [pair for split in SPLITS for pair in known.ner[split]]
    (tmp_path / "a.conll").write_text(conll(sentences), encoding="utf-8")
    lines = ["# newdoc id = 1"]
    for words, tags in sentences:
        pairs = zip(words, tags, strict=True)
        lines += ["# text", *(f"{n}\t{w}\t{t}\t-\tme" for n, (w, t) in enumerate(pairs, 1)), ""]
    (tmp_path / "a.iob2").write_text("\n".join(lines), encoding="utf-8")
    one = ConlluFile(path=str(tmp_path / "a.conll"), column="ner")
    other = ConlluFile(path=str(tmp_path / "a.iob2"), column="ner")
    for split in SPLITS:
        assert list(one.read().sentences(split)) == list(other.read().sentences(split))
    assert [metric.name for metric in one.metrics] == ["f1", "precision", "recall"]


# What is wrong is said

LINE = "1\ta\t_\tDET" + "\t_" * 6


@pytest.mark.parametrize(
    ("column", "text", "message"),
    [
        ("upos", f"{LINE}\n2\tb\tDET\n", r"f, line 2 has 3 columns, not the 10 of CoNLL-U"),
        ("upos", LINE.replace("DET", "Det"), r"f, line 1 has upos 'Det'; choices: ADJ, ADP"),
        ("xpos", LINE, r"f, line 1 has no xpos"),
        ("upos", "# text\n\n", r"f has no words"),
        ("ner", "a\n", r"f, line 1 has no second column: 'a'"),
        ("ner", "a O\nb X-PER\n", r"f, line 2 has the tag 'X-PER', which is none of O, B-<type>"),
        ("ner", "a O\n", r"f has too few sentences: none falls into"),
    ],
)
def test_a_wrong_line_is_named(column: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_text(text)
    with pytest.raises(DataError, match=message):
        read_one(tmp_path / "f", column)  # type: ignore[arg-type]


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "my.conllu").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"my\.conllu is not UTF-8"):
        read_one(tmp_path / "my.conllu", "upos")
    with pytest.raises(DataError, match=r"there is no file .*my\.conll; did you mean .*my\.conllu"):
        ConlluFile(path=str(tmp_path / "my.conll")).size("val")
    with pytest.raises(DataError, match="No such file"):
        read_splits(dict.fromkeys(SPLITS, tmp_path / "none"), "upos")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Pos(unit="word"), "no unit 'word'; did you mean 'words'. choices: words, bytes"),
        (lambda: Pos(context="text"), "no context 'text'.* choices: sentence, document"),
        (lambda: Pos(min_count=0), "min_count must be an integer of at least 1, not 0"),
        (lambda: Pos(length=0), "length must be an integer of at least 1, not 0"),
        (lambda: Ner(data_set="conll"), "no data_set 'conll'; did you mean 'conll2003'"),
        (lambda: ConlluFile(path=""), "path must name a file, not ''"),
        (lambda: ConlluFile(path="a", val_path="b"), "must both name a file, or neither"),
        (lambda: ConlluFile(path="a", column="pos"), "no column 'pos'.* choices: upos, xpos, ner"),
    ],
)
def test_wrong_fields_raise(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def test_entities_need_seqeval_before_anything_is_trained(
    known: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    Pos().examples("val", 0, torch.arange(2))
    real = importlib.util.find_spec
    monkeypatch.setattr(
        packages.importlib.util, "find_spec", lambda n: None if n == "seqeval" else real(n)
    )
    with pytest.raises(MissingPackageError, match=r"needs seqeval: pip install 'seqbench\[data\]'"):
        Ner().examples("train", 0, torch.arange(2))
    Pos().examples("val", 0, torch.arange(2))


def test_data_that_is_not_here_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQBENCH_DATA", str(tmp_path))
    for task, name in ((Pos(), "ud_english_ewt"), (Ner(data_set="wnut17"), "wnut17")):
        assert task.data_sets == (name,)
        with pytest.raises(MissingDataError, match=f"run `bench data fetch {name}`"):
            task.size("val")
