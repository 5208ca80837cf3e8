"""`bench measure`: what is asked is checked first, and what was measured is not measured again."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from bench import cli
from bench.commands import measure as measure_command
from bench.errors import UserError
from bench.study import load


@pytest.mark.parametrize("text", ["", "256,", "256,128", "16,16", "0,2", "-4", "a,b", "1.5", "2;4"])
def test_lengths_are_increasing_positive_integers(text):
    with pytest.raises(UserError, match="increasing positive integers"):
        measure_command.lengths_of(text)
    assert measure_command.lengths_of("16, 64,256") == [16, 64, 256]


def test_an_unknown_instrument_is_named_with_the_nearest():
    with pytest.raises(UserError, match="did you mean 'memory'"):
        measure_command.instruments_of("throughput,memroy")


def test_a_batch_is_fixed_in_tokens_or_in_sequences():
    with pytest.raises(UserError, match="not both"):
        measure_command.batch_of(64, 8)
    for given, sizes in (((64, None), [4, 1]), ((None, 8), [8, 8])):
        batch = measure_command.batch_of(*given)
        runs = measure_command.runs_of(["gru"], "parity", [16, 64], ["memory"], batch, [])
        assert [run.training.sequences(run.length) for run in runs] == sizes


@pytest.mark.parametrize("instruments", [["memory"], ["memory", "longest_length"]])
def test_a_limit_of_memory_turns_the_search_for_the_longest_length_on(instruments):
    searches, limit = measure_command.limit_of("1.5GiB")
    asked = [*instruments, *searches]
    (run,) = measure_command.runs_of(["gru"], "parity", [16], asked, limit, [])
    assert run.measure.memory_limit_bytes == 3 << 29
    assert run.measure.instruments == ("longest_length", "memory")
    assert measure_command.limit_of(None) == ([], [])


@pytest.mark.parametrize("size", ["", "8", "lots", "-1GiB", "0G", "8GiBs", "1e9"])
def test_a_limit_that_is_no_size_is_one_line(size, tmp_path):
    words = ["measure", "-a", "gru", "-l", "16", "--memory", size, "--folder", str(tmp_path / "m")]
    with pytest.raises(UserError) as raised:
        cli.app(words, standalone_mode=False)
    assert str(raised.value) == f"--memory takes a size such as 8GiB or 500M, not {size!r}"
    assert not (tmp_path / "m").exists()


def test_there_is_a_run_for_every_architecture_and_length_and_settings_hold_for_all():
    runs = measure_command.runs_of(
        ["gru", "lstm", "gru"], "parity", [16, 64], ["memory"], [], ["params=9000"]
    )
    assert [(run.architecture.name, run.length) for run in runs] == [
        (name, length) for name in ("gru", "lstm") for length in (16, 64)
    ]
    assert all(run.params == 9000 and run.training.steps == 0 for run in runs)
    with pytest.raises(UserError, match="did you mean 'params'"):
        measure_command.runs_of(["gru"], "parity", [16], ["memory"], [], ["parms=9000"])


def test_the_study_in_the_folder_grows_and_reads_as_any_other(tmp_path):
    for lengths in ([16], [64], [16]):
        runs = measure_command.runs_of(["gru"], "parity", lengths, ["memory"], [], [])
        measure_command._write(tmp_path, measure_command._earlier(tmp_path), runs)
    assert [run.length for run in load(tmp_path).runs] == [16, 64]


def bench(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=400,
    )


def test_a_study_that_somebody_wrote_is_left_alone(tmp_path):
    (tmp_path / "study.yaml").write_text("title: mine\n")
    done = bench("measure", "-a", "gru", "-l", "16", "--folder", tmp_path)
    assert done.returncode == 2
    assert "name another --folder" in done.stderr
    assert (tmp_path / "study.yaml").read_text() == "title: mine\n"
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]


@pytest.mark.slow
def test_what_was_measured_is_not_measured_again(tmp_path):
    words = ["measure", "-a", "gru", "-i", "memory", "--batch-size", 2, "--folder", tmp_path / "m"]
    first = bench(*words, "-l", "8")
    assert first.returncode == 0, first.stderr
    assert "1 cell to run, 0 done" in first.stdout
    second = bench(*words, "-l", "8,16")
    assert "1 cell to run, 1 done" in second.stdout
    assert "2 runs: 2 ok" in second.stdout
    table = json.loads(bench("table", tmp_path / "m", "-f", "json").stdout)
    assert [line["length"] for line in table] == [8, 16]
    assert all(line["peak_bytes"] is not None for line in table)
