"""Language modelling: every token is scored once, in both ways, and perplexity is per word."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

import architectures
from architectures.body import Body, State
from bench.spec import parse_run
from bench.training import data as training_data
from bench.training.execute import execute, prepare
from bench.training.scores import Scores
from tasks import TASKS
from tasks.data.cache import MissingDataError
from tasks.language import LanguageModelling, WordModelling
from tasks.task import SPLITS, UNSCORED, Split, Task
from tests import cases_language

NAMES = sorted(cases_language.EXAMPLES)
WORD_SETS = ["ptb", "wikitext103", "wikitext2"]
UNIFORM = 1e-5  # relative: float32 sums of terms of one order
EXPONENTIATED = 1e-4  # relative: the exponential of such a sum, which is about 7
CARRIED = 1e-5  # relative: float32, other batches
BPE = 300


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("language")
    cases_language.write(folder)
    return folder


@pytest.fixture(autouse=True)
def _data(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases_language.use(root, monkeypatch)


def task_of(name: str, **fields: Any) -> LanguageModelling:
    cls = cast("Callable[..., LanguageModelling]", TASKS[name])
    return cls(**{"length": 33, **cases_language.REQUIRED.get(name, {}), **fields})


def whole(task: LanguageModelling, split: Split) -> Tensor:
    """All tokens of a split, after the one before it."""
    return torch.from_numpy(task.corpus().streams[split].astype("int64"))


def as_text(tokens: Tensor) -> str:
    """A character for every token, so that pieces are quickly found."""
    return "".join(map(chr, tokens.tolist()))


VARIANTS = [
    *((name, {}) for name in NAMES),
    *((name, {"bpe": BPE}) for name in ("ptb", "wikitext2")),
    *(("text_file", {"unit": unit}) for unit in ("chars", "words")),
]


@pytest.mark.parametrize(("name", "fields"), VARIANTS)
@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("length", [97, 4096, 10**6])
def test_every_token_is_scored_once_and_in_order(
    name: str, fields: dict[str, Any], split: Split, length: int
) -> None:
    task = task_of(name, length=length, **fields)
    size = task.size(split)
    assert size is not None
    scored = []
    for indices in torch.arange(size).split(512):
        batch = task.examples(split, 0, indices)
        assert batch.inputs.shape == batch.targets.shape == (len(indices), length)
        scored.append(batch.targets[batch.targets != UNSCORED])
    stream = task.corpus().windows(split, torch.tensor([0]), task.corpus().n_tokens(split))[0]
    assert torch.equal(torch.cat(scored), stream[1:])
    assert len(stream) - 1 == task.corpus().n_tokens(split)


@pytest.mark.parametrize("name", [*NAMES, "python_bytes"])
@pytest.mark.parametrize("split", ["val", "test"])
def test_example_goes_on_where_the_one_before_ends(name: str, split: Split) -> None:
    cls = cast("Callable[..., Task]", TASKS[name])
    task = cls(length=101, **cases_language.REQUIRED.get(name, {}))
    assert task.contiguous
    size = task.size(split)
    assert size is not None
    batch = task.examples(split, 0, torch.arange(size))
    read, asked = batch.inputs.flatten(), batch.targets.flatten()
    n_scored = int((asked != UNSCORED).sum())
    assert (asked[:n_scored] != UNSCORED).all()
    assert 0 <= len(asked) - n_scored < 101
    # Side by side the windows are one text, and what is asked is what is read next.
    assert torch.equal(asked[: n_scored - 1], read[1:n_scored])


@pytest.mark.parametrize("name", NAMES)
def test_training_windows_are_pieces_of_train_and_may_be_any(name: str) -> None:
    task = task_of(name)
    text = task.corpus().windows("train", torch.tensor([0]), task.corpus().n_tokens("train"))[0]
    written = as_text(text)
    batch = task.examples("train", 3, torch.arange(40))
    for inputs, labels in zip(batch.inputs, batch.targets, strict=True):
        assert torch.equal(inputs[1:], labels[:-1])
        assert as_text(torch.cat([inputs, labels[-1:]])) in written
    starts = task._starts(0, torch.arange(400)).sort().values
    n_starts = task.corpus().n_tokens("train") - 33 + 1
    assert starts.max() < n_starts
    assert starts.diff().max() < 0.03 * n_starts  # of 400, the widest gap is about 1.6 %
    assert len((starts % 33).unique()) == 33


def test_a_training_window_may_be_the_whole_split_and_no_more() -> None:
    n_tokens = task_of("shakespeare").corpus().n_tokens("train")
    batch = task_of("shakespeare", length=n_tokens).examples("train", 0, torch.arange(1))
    assert batch.targets.shape == (1, n_tokens)
    with pytest.raises(ValueError, match=f"at most the {n_tokens} tokens of train, not"):
        task_of("shakespeare", length=n_tokens + 1).examples("train", 0, torch.arange(1))


def test_the_first_tokens_alone_are_scored_if_asked() -> None:
    task = task_of("ptb", n_val_tokens=50, n_test_tokens=100)
    for split, n_scored in (("val", 50), ("test", 100)):
        size = task.size(cast("Split", split))
        assert size == -(-n_scored // 33)
        batch = task.examples(cast("Split", split), 0, torch.arange(size))
        scored = batch.targets[batch.targets != UNSCORED]
        assert torch.equal(scored, whole(task, cast("Split", split))[1 : n_scored + 1])
    n_tokens = task.corpus().n_tokens("test")
    with pytest.raises(ValueError, match=f"n_test_tokens must be at most the {n_tokens} tokens"):
        replace(task, n_test_tokens=n_tokens + 1).size("test")


# Scores


def scores_of(task: LanguageModelling, answer: Callable[[Tensor], Tensor]) -> dict[str, float]:
    """The metrics of the whole test split, from outputs (B, T, V) that depend on inputs (B, T)."""
    scores, size = Scores(task.metrics), task.size("test")
    assert size is not None
    for indices in torch.arange(size).split(64):
        batch = task.examples("test", 0, indices)
        scores.add(task.score(answer(batch.inputs), batch.targets))
    return scores.reduce(lambda parts: parts)


@pytest.mark.parametrize(("name", "fields"), VARIANTS)
def test_the_uniform_guess_scores_the_stated_chance(name: str, fields: dict[str, Any]) -> None:
    task = task_of(name, **fields)
    v = task.n_outputs
    found = scores_of(task, lambda inputs: torch.zeros(*inputs.shape, v))
    assert found == {m.name: pytest.approx(m.chance, rel=UNIFORM) for m in task.metrics}
    if isinstance(task, WordModelling) and task.bpe is None:
        assert task.metrics[0].chance == pytest.approx(v)
    elif task.symbol != "word":
        assert task.metrics[0].chance == pytest.approx(math.log2(v))


@pytest.mark.parametrize(("name", "fields"), VARIANTS)
def test_the_baseline_is_what_the_frequencies_of_train_score(
    name: str, fields: dict[str, Any]
) -> None:
    task = task_of(name, **fields)
    train = task.corpus().windows("train", torch.tensor([0]), task.corpus().n_tokens("train"))
    counts = train[0, 1:].bincount(minlength=task.n_outputs) + 1
    logits = (counts / counts.sum()).log()
    found = scores_of(task, lambda inputs: logits.expand(*inputs.shape, -1))
    assert found == {m.name: pytest.approx(m.baseline, rel=UNIFORM) for m in task.metrics}
    assert all(m.baseline is not None and m.baseline < m.chance for m in task.metrics)


@pytest.mark.parametrize("bpe", [None, BPE])
def test_perplexity_is_per_word_and_bits_are_per_byte_of_the_file(
    bpe: int | None, root: Path
) -> None:
    """Nats of all tokens over the words and bytes that plain Python finds in the file."""
    task = task_of("wikitext2", bpe=bpe)
    raw = (root / "wikitext2" / "wikitext-2" / "wiki.test.tokens").read_bytes()
    n_words = len(raw.decode().replace("\n", " <eos> ").split())
    table = torch.randn(task.n_outputs, task.n_outputs, generator=torch.Generator().manual_seed(0))
    found = scores_of(task, lambda inputs: table[inputs])
    stream = whole(task, "test")
    nats = -float(table.double().log_softmax(-1)[stream[:-1], stream[1:]].sum())
    assert found["perplexity"] == pytest.approx(math.exp(nats / n_words), rel=EXPONENTIATED)
    assert found["bits_per_byte"] == pytest.approx(nats / math.log(2) / len(raw), rel=UNIFORM)
    assert (len(stream) - 1 == n_words) == (bpe is None)


def test_a_perplexity_beyond_all_floats_is_infinite() -> None:
    (metric, _) = task_of("ptb").metrics
    assert metric.finish([1e5], 2.0) == math.inf
    assert math.isnan(metric.finish([0.0], 0.0))


# Reset and carried state


class Memoryless(Body):
    """Each output depends on its own input alone."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.mix = nn.Linear(width, width)

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        return x + self.mix(x).tanh(), state

    def flops_per_token(self, length: int) -> float:
        return 2.0 * self.width**2


def a_run(architecture: str, name: str, **fields: Any) -> Any:
    few = {"n_val_tokens": 200, "n_test_tokens": 1000}
    task = {"name": name, **cases_language.REQUIRED.get(name, {}), **few, **fields}
    return parse_run(
        {
            "architecture": architecture,
            "task": task,
            "length": 33,
            "width": 8,
            "training": {"steps": 3, "batch_size": 4},
        }
    )


@pytest.mark.parametrize(("name", "fields"), [("ptb", {}), ("ptb", {"bpe": BPE}), ("text8", {})])
def test_reset_and_carried_state_agree_for_a_body_without_memory(
    name: str, fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(architectures.ARCHITECTURES, "memoryless", Memoryless)
    row = execute(a_run("memoryless", name, **fields), "test", {})
    assert row.status == "ok", (row.reason, row.log_tail)
    metrics = [m for m in row.metrics if m.endswith("_carried")]
    assert len(metrics) == (1 if name == "text8" else 2)
    for metric in metrics:
        reset = row.metrics[metric.removesuffix("_carried")]
        assert row.metrics[metric] == pytest.approx(reset, rel=CARRIED)


def test_carried_state_reads_the_split_as_one_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """With streams as long as the split: the same as one pass over all of it."""
    monkeypatch.setattr(training_data, "CARRIED_EXAMPLES", 10**6)
    run = a_run("gru", "ptb")
    prepared = prepare(run)
    row = execute(run, "test", {})
    assert row.status == "ok", (row.reason, row.log_tail)
    from bench.training.fit import fit

    fit(run, prepared.task, prepared.model)
    task = replace(cast("LanguageModelling", prepared.task), length=1000)
    batch = task.examples("test", 0, torch.tensor([0]))
    assert (batch.targets != UNSCORED).all()
    with torch.no_grad():
        outputs, _ = prepared.model(batch.inputs)
    scores = Scores(task.metrics)
    scores.add(task.score(outputs, batch.targets))
    expected = scores.reduce(lambda parts: parts)
    for metric, value in expected.items():
        assert row.metrics[f"test_{metric}_carried"] == pytest.approx(value, rel=CARRIED)
        assert row.metrics[f"test_{metric}"] != pytest.approx(value, rel=CARRIED)


# What is asked and what is not there


@pytest.mark.parametrize("name", [name for name in NAMES if name != "text_file"])
def test_data_that_is_not_there_is_named_with_the_command_that_brings_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQBENCH_DATA", str(tmp_path))
    task = task_of(name)  # reads nothing
    assert task.data_sets == (name,)
    for split in SPLITS:
        with pytest.raises(MissingDataError, match=f"run `bench data fetch {name}`"):
            task.examples(split, 0, torch.arange(1))


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("enwik8", {"n_val_tokens": 0}, "n_val_tokens must be an integer of at least 1, not 0"),
        ("ptb", {"bpe": 257}, "bpe must be an integer of at least 258, not 257"),
        ("wikitext2", {"bpe": True}, "bpe must be an integer of at least 258, not True"),
        ("text_file", {"path": ""}, "path must name a file, not ''"),
        ("text_file", {"unit": "lines"}, "one of bytes, chars, words, not 'lines'"),
        ("text_file", {"unit": "chars", "min_count": 0}, "min_count must be an integer"),
        ("text_file", {"min_count": 2}, "min_count must be 1 with unit = bytes, not 2"),
        ("text_file", {"val_share": 0.5}, "val_share must be above 0 and below 0.5, not 0.5"),
        ("text_file", {"test_share": 0}, "test_share must be above 0 and below 0.5, not 0"),
    ],
)
def test_wrong_fields_raise_and_say_what_is_valid(
    name: str, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        task_of(name, **fields)
