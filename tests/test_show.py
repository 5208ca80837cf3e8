"""One run as text: all that its row has, curves drawn, and a command that means the same run."""

import json
import math
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bench.records.row import Row
from bench.records.store import Store, canonical
from bench.repeat import command
from bench.report.one_row import sections
from bench.report.text_plot import BLANK, plot
from bench.spec import parse_run
from bench.study import one_run
from tests import synthetic
from tests.test_claim import leave
from tests.test_status import STUDY

HOSTILE = "a'b\"c $(touch pwned) `x` \\n\n\t; & | #é\x7f\x85\u2028😀 {[: -"


def bench(*words: object, cwd: Path | None = None, **environment: str):
    return subprocess.run(
        [sys.executable, "-m", "bench", *map(str, words)],
        capture_output=True,
        cwd=cwd,
        env={**os.environ, **environment},
    )


def read_back(text: str):
    """The run that a command line means."""
    words = shlex.split(text)
    assert words[:2] == ["bench", "run"]
    given: dict[str, list[str]] = {}
    for key, value in zip(words[2::2], words[3::2], strict=True):
        given.setdefault(key, []).append(value)
    (architecture,), (task,), (length,), (seed,) = (given[k] for k in ("-a", "-t", "-l", "--seed"))
    return one_run(architecture, task, int(length), int(seed), given.get("--set", []))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"seed": 7, "width": 48},
        {"params": 200_000, "params_of": "body", "test_lengths": [256, 512]},
        {"training": {"steps": 3, "learning_rate": 1e-5, "clip_norm": None, "patience": 2}},
        {"training": {"steps": 0}, "measure": {"instruments": ["memory", "streaming"]}},
        {"resources": {"devices": 2, "strategy": "ddp", "timeout_s": 3.5, "memory_bytes": 2**33}},
        {"architecture": {"name": "lstm", "layers": 3, "bias": True, "init": None, "eps": 1e-30}},
        {"architecture": {"name": "x", "encoder": {"name": "gru", "layers": 2}, "parts": ["a", 1]}},
        {"architecture": {"name": "x", "label": 'deep: "lstm" $(x)', "text": HOSTILE}},
        {"architecture": {"name": "x", "options": {"a.b": 1, "c=d": {"e": [HOSTILE]}}}},
        {"task": {"name": "mqar", "n_pairs": 8, "label": "eight", "vocabulary": "0x10", "b": "on"}},
        {"task": {"name": "t", "big": 10**15, "small": -0.5, "words": ["1", "null", "~", "1e3"]}},
    ],
    ids=str,
)
def test_the_command_that_repeats_a_run_means_that_run(changes):
    run = synthetic.run(**changes)
    text = command(run)
    again = read_back(text)
    assert again == run
    assert again.id == run.id
    assert text.isprintable()


def test_the_command_is_short_where_defaults_do():
    run = synthetic.run(training={"steps": 1000})
    assert command(run) == "bench run -a lstm -t mqar -l 128 --seed 0"


def shown(row: Row, *, braille: bool = True) -> str:
    return "\n".join(sections(row, braille=braille))


def test_everything_of_a_row_is_shown():
    run = synthetic.run({"name": "lstm", "layers": 3}, training={"steps": 300, "warmup_steps": 11})
    row = synthetic.row(
        run,
        "failed",
        log_tail="first line\nlast line",
        resolved={"architecture": {"layers": 3, "bias": True}, "width": 40},
        curves={"train_loss": [(1, 3.0), (2, 2.0)], "val_score": []},
        provenance={**synthetic.PROVENANCE, "slurm_job_id": "88_3", "requeues": 2, "none": None},
    )
    text = shown(row)
    for part in (
        *("training.warmup_steps", "11", "architecture.layers", "architecture.bias", "kernel"),
        *("parameters", "50000", "train_loss", "no finite value", "Imaginary 9000"),
        *("versions.torch", "2.13.0", "88_3", "requeues", "git_commit", "accuracy"),
        *("  first line", "  last line"),
    ):
        assert part in text
    assert "none" not in text


def test_hostile_text_does_nothing_to_a_terminal():
    evil = "\x1b[2J\x07\x9b31m\u202e\r[bold]"
    row = synthetic.row(
        synthetic.run({"name": "lstm", "label": "[red]"}),
        "failed",
        log_tail=f"{evil}\nsecond",
        kernel=evil,
        metrics={evil: evil},
        curves={evil: [(1, 2.0)]},
        provenance={evil: {evil: evil}},
    )
    text = shown(row)
    assert all(sign.isprintable() or sign == "\n" for sign in text)
    assert "\\x1b[2J" in text
    assert "[bold]" in text


def drawn(text: str) -> list[list[bool]]:
    """The dots of a plot in Braille, line by line."""
    lines = [line.partition(" | ")[2] for line in text.splitlines() if " |" in line]
    signs = [[ord(sign) - BLANK if sign != " " else 0 for sign in line] for line in lines]
    width = max(map(len, signs))
    bits = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
    return [
        [bool(line[x] & bit) if x < len(line) else False for x in range(width) for bit in pair]
        for line in signs
        for pair in bits
    ]


def test_a_straight_line_is_drawn_straight():
    n = 32
    dots = drawn(plot([(0, 0.0), (100, 1.0)], n_columns=n // 2, n_lines=n // 4, braille=True))
    assert len(dots) == n
    for y, line in enumerate(dots):
        assert [x for x, dot in enumerate(line) if dot] == [n - 1 - y]


def test_a_curve_has_a_dot_in_every_column_and_its_ends_where_they_are():
    points = [(step, math.sin(step / 9)) for step in range(101)]
    text = plot(points, n_columns=40, n_lines=6, braille=True)
    dots = drawn(text)
    assert all(any(column) for column in zip(*dots, strict=True))
    assert any(dots[0])
    assert any(dots[-1])
    lines = text.splitlines()
    assert float(lines[0].split()[0]) == pytest.approx(max(y for _, y in points), abs=1e-3)
    assert float(lines[-2].split()[0]) == pytest.approx(min(y for _, y in points), abs=1e-3)
    assert lines[-1].split() == ["0", "100", "steps"]


def test_what_is_missing_is_a_gap_and_not_a_zero():
    points = [(0, 5.0), (10, 5.0), (20, None), (30, math.nan), (40, 6.0), (50, 6.0)]
    text = plot(points, n_columns=25, n_lines=4, braille=True)
    columns = list(zip(*drawn(text), strict=True))
    filled = [any(column) for column in columns]
    assert not any(filled[12:38])
    assert filled[0]
    assert filled[-1]
    assert text.splitlines()[3].split()[0].startswith("5")


@pytest.mark.parametrize(
    "points",
    [
        [(3, 1.0)],
        [(0, 1.0), (1, 1.0)],
        [(5, 1.0), (5, 2.0)],
        [(0, -1e300), (1, 1e300)],
        [(2, 1.0), (1, 0.0)],
    ],
)
def test_odd_curves_are_drawn_too(points):
    text = plot(points, braille=True)
    assert any(ord(sign) > BLANK for sign in text)
    assert max(map(len, text.splitlines())) < 100


def test_no_value_no_plot():
    for points in ([], [(1, None)], [(1, math.nan), (2, math.inf)]):
        assert plot(points, braille=True) == "no finite value"


def test_a_terminal_that_knows_ascii_alone_gets_it():
    text = plot([(0, 0.0), (1, 1.0)], braille=False)
    assert text.isascii()
    assert "*" in text


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = tmp_path / "results" / "a 'study'; $(x)"
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text(STUDY)
    return folder


def runs():
    return [synthetic.run(width=16, seed=seed, training={"steps": 300}) for seed in range(3)]


def test_show_tells_of_a_row_and_what_repeats_it(study, tmp_path):
    run, store = runs()[0], Store(study)
    row = synthetic.row(run)
    store.write(row)
    done = bench("show", run.id[:10], cwd=tmp_path, PYTHONIOENCODING="utf-8")
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    (line,) = (line for line in text.splitlines() if "bench run" in line)
    assert read_back(line[line.index("bench run") :]).id == run.id
    assert f"rows/{run.id}.json" in text
    assert any(ord(sign) > BLANK for sign in text)
    plain = bench("show", run.id, cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert plain.returncode == 0
    assert plain.stdout.isascii()
    store.pack()
    packed = bench("show", run.id, "--study", study, "--json")
    assert packed.stdout.decode() == f"{canonical(row)}\n"


def test_show_of_a_run_without_a_row_says_how_far_it_is(study, tmp_path):
    lost, pending, _ = runs()
    (study / "work").mkdir()
    leave(study / "work" / f"{lost.id}.log", host="node7")
    text = bench("show", lost.id, cwd=tmp_path).stdout.decode()
    assert "lost: node7 process" not in text  # another host's claim counts as long as it is fresh
    assert "running: node7 process 4194305" in text
    assert "bench run" in text
    text = bench("show", pending.id, cwd=tmp_path).stdout.decode()
    assert "pending" in text
    assert "training.steps" in text
    done = bench("show", pending.id, "--json", cwd=tmp_path)
    assert done.returncode == 2
    assert b"has no row yet" in done.stderr


def test_a_row_of_another_seqbench_is_shown_as_far_as_it_goes(study, tmp_path):
    row = synthetic.row(runs()[0])
    foreign = row.model_copy(update={"run": {**row.run, "flavour": "new"}})
    Store(study).write(foreign)
    done = bench("show", row.id, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert b"no key 'flavour'" in done.stdout
    assert b"test_score" in done.stdout


def test_logs_are_printed_whole_or_as_far_as_the_row_has_them(study, tmp_path):
    first, second, third = runs()
    work = study / "work"
    work.mkdir()
    log = work / f"{first.id}.log"
    log.write_bytes(b"".join(b"line %d\n" % n for n in range(1000)) + b"\xff end\n")
    done = bench("logs", first.id[:12], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"line 0\n")
    assert done.stdout.endswith(b"line 999\n\\xff end\n")
    assert (
        bench("logs", first.id, "--path", cwd=tmp_path).stdout.decode().strip().endswith(log.name)
    )
    Store(study).write(synthetic.row(second, "failed", log_tail="what it said last"))
    assert bench("logs", second.id, cwd=tmp_path).stdout == b"what it said last\n"
    done = bench("logs", third.id, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"has printed nothing" in done.stderr


def test_show_and_logs_of_no_run_are_one_line(study, tmp_path):
    for command_ in ("show", "logs"):
        done = bench(command_, "../../etc/passwd", cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.startswith(b"bench: ")
        assert done.stderr.count(b"\n") == 1


def test_json_of_a_row_is_the_row(study, tmp_path):
    row = synthetic.row(runs()[0])
    Store(study).write(row)
    done = bench("show", row.id, "--json", cwd=tmp_path)
    assert Row.model_validate(json.loads(done.stdout)) == row
    assert parse_run(json.loads(done.stdout)["run"]) == runs()[0]
