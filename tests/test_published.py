"""Published numbers: read, named, and shown beside rows without ever being one."""

import csv
import io

import pytest
from typer.testing import CliRunner

from bench import cli
from bench.errors import UserError
from bench.listing import built_in
from bench.records.store import Store
from bench.report import leaderboard, page, published
from bench.report.published import for_study, list_csv, list_text, markdown, read, select
from tests import synthetic

HEADER = "task,architecture,metric,value,params,citation,year\n"
NAMES = """\
tasks:
  smnist: {task: smnist, length: 784, metric: accuracy_pct, column: test_accuracy, factor: 0.01}
architectures:
  lstm: {ours: [lstm_stack, lstm], differs: residual}
"""


@pytest.fixture(scope="module")
def numbers():
    return read()


def read_given(tmp_path, lines, names=NAMES):
    table, of_names = tmp_path / "published.csv", tmp_path / "names.yaml"
    table.write_text(lines)
    of_names.write_text(names)
    return read(table, of_names)


def test_every_number_has_its_citation_and_year(numbers):
    assert len(numbers) == 588
    assert all(one.citation and 1980 < one.year < 2100 for one in numbers)


def test_every_version_of_a_number_is_kept(numbers):
    lstm = [one for one in select(numbers, task="smnist") if one.architecture == "lstm"]
    assert sorted(one.value for one in lstm) == ["87.2", "92.88", "98.8"]
    assert len({one.citation for one in lstm}) == 3


def test_names_stand_for_what_is_registered(numbers):
    tasks, architectures = built_in("tasks"), built_in("architectures")
    assert {one.our_task.task for one in numbers if one.our_task} <= tasks.keys()
    ours = {name for one in numbers if one.our_architecture for name in one.our_architecture.ours}
    assert ours <= architectures.keys()


def test_every_name_in_the_table_of_names_is_printed_somewhere(numbers):
    names = published._names(published.NAMES_FILE)
    assert names.tasks.keys() <= {one.task for one in numbers}
    assert names.architectures.keys() <= {one.architecture for one in numbers}


@pytest.mark.parametrize(
    ("task", "column", "printed", "ours"),
    [
        ("smnist", "test_accuracy", "87.2", 0.872),
        ("text8", "test_bits_per_char", "1.5", 1.5),
        ("adding", "test_mse", "0.164", 0.164),
    ],
)
def test_a_number_is_in_the_unit_of_our_column(numbers, task, column, printed, ours):
    (one,) = [
        n
        for n in select(numbers, task=task, architecture="lstm_stack")
        if n.citation.startswith("Bai") and n.value == printed
    ]
    assert one.our_task.column == column
    assert one.reported == pytest.approx(ours)


def test_what_is_printed_as_failed_is_no_number(numbers):
    failed = [one for one in numbers if one.value in ("FAIL", "x")]
    assert failed
    assert all(one.reported is None for one in failed)


def test_only_cells_that_are_the_published_ones_have_numbers_beside_them(tmp_path, numbers):
    runs = [
        synthetic.run("lstm_stack", "smnist", 784),
        synthetic.run("lstm_stack", "smnist", 196),  # another length: another task
        synthetic.run("transformer", "mqar", 128),
        synthetic.measuring("lstm_stack", "smnist", 784),
    ]
    lines = for_study(synthetic.study(runs, tmp_path), numbers)
    assert sorted(line.number.value for line in lines) == ["87.2", "92.88", "98.8"]
    assert {(line.task, line.length, line.architecture) for line in lines} == {
        ("smnist", 784, "lstm_stack")
    }


def test_options_that_make_another_architecture_are_told_apart(tmp_path, numbers):
    inverse = {"name": "s4d", "init": "inv"}
    for architecture, name in (("s4d", "s4d_legs"), (inverse, "s4d_inv")):
        study = synthetic.study([synthetic.run(architecture, "listops", 2000)], tmp_path)
        assert name in {line.number.architecture for line in for_study(study, numbers)}
        other = {"s4d_legs", "s4d_inv"} - {name}
        assert not other & {line.number.architecture for line in for_study(study, numbers)}


def test_what_differs_is_said_beside_the_number(tmp_path, numbers):
    task = {"name": "smnist", "n_train": 1000}
    study = synthetic.study([synthetic.run("lstm", task, 784)], tmp_path)
    for line in for_study(study, numbers):
        assert "residual backbone" in line.differs
        assert "n_train 1000" in line.differs


def test_the_section_says_that_nothing_of_it_was_run(tmp_path, numbers):
    study = synthetic.study([synthetic.run("lstm_stack", "smnist", 784)], tmp_path)
    text = markdown(for_study(study, numbers))
    assert text.startswith("## Reported, not run\n")
    for value in ("87.2", "92.88", "98.8", "Wave-RNN"):
        assert value in text
    assert markdown([]) == ""


def board_of(folder, task="smnist", length=784):
    runs = [
        synthetic.run(architecture, task, length, seed=seed)
        for architecture in ("lstm_stack", "gru_stack")
        for seed in (0, 1)
    ]
    store = Store(folder)
    synthetic.fill(store, runs)
    return synthetic.study(runs, folder), store


@pytest.mark.parametrize("format_", ["md", "html", "latex"])
def test_a_leaderboard_shows_every_version_apart_from_its_ranks(tmp_path, monkeypatch, format_):
    study, store = board_of(tmp_path)
    (text,) = leaderboard.render(study, store, [format_]).values()
    monkeypatch.setattr(published, "NUMBERS_FILE", tmp_path / "none.csv")
    (without,) = leaderboard.render(study, store, [format_]).values()
    before, told, after = text.decode().partition("Reported, not run")
    assert told
    assert without.decode().startswith(before[: before.rindex("\n")])
    assert without.decode().endswith(after[after.index("How to read this") :])
    for value in ("87.2", "92.88", "98.8"):
        assert value in after
        assert value not in before
    assert "Reported" not in without.decode()


def test_no_csv_of_a_leaderboard_holds_what_was_not_run(tmp_path, monkeypatch):
    study, store = board_of(tmp_path)
    content = leaderboard.render(study, store, ["csv"])
    monkeypatch.setattr(published, "NUMBERS_FILE", tmp_path / "none.csv")
    assert leaderboard.render(study, store, ["csv"]) == content


def test_nothing_is_said_where_no_number_stands_beside_a_cell(tmp_path):
    study, store = board_of(tmp_path, length=196)
    (text,) = leaderboard.render(study, store, ["md"]).values()
    assert b"Reported" not in text
    assert "Reported" not in page.render(study, store)


def test_the_check_of_a_leaderboard_knows_the_published_numbers(tmp_path, monkeypatch):
    study, store = board_of(tmp_path)
    leaderboard.write(study, store)
    assert leaderboard.check(study, store) == []
    monkeypatch.setattr(published, "NUMBERS_FILE", tmp_path / "none.csv")
    assert [path.name for path in leaderboard.check(study, store)] == ["LEADERBOARD.md"]


def test_unmatched_numbers_stay_in_the_list(numbers):
    text = list_text(numbers)
    assert len([line for line in text.splitlines() if line.startswith("|")]) == 588 + 2
    assert "lambada (unmatched)" in text
    lines = list(csv.DictReader(io.StringIO(list_csv(numbers))))
    assert len(lines) == 588
    assert {line["flag"] for line in lines} == {"reported, not run"}
    assert next(x for x in lines if x["task"] == "lambada")["our_task"] == "unmatched"


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("task,value\n", "the columns are task, architecture"),
        ("", "not none"),
        (HEADER + "smnist,lstm,accuracy_pct,87.2,,,2018\n", "line 2: citation is empty"),
        (HEADER + "smnist,lstm,accuracy_pct,87.2,,Bai,18\n", "line 2: year has four digits"),
        (HEADER + "smnist,lstm\n", "line 2: a line has 7 columns"),
        (HEADER + "smnist,lstm,accuracy_pct,1,,Bai,2018,more\n", "line 2: a line has 7 columns"),
    ],
)
def test_a_broken_table_is_one_line_that_says_where(tmp_path, lines, problem):
    with pytest.raises(UserError, match=problem) as raised:
        read_given(tmp_path, lines)
    assert "\n" not in str(raised.value)


def test_a_broken_table_of_names_names_the_key(tmp_path):
    broken = NAMES.replace("differs:", "differ:")
    with pytest.raises(
        UserError, match=r"architectures\.lstm: no key 'differ'; did you mean 'diff"
    ):
        read_given(tmp_path, HEADER, broken)


def test_hostile_text_stays_text(tmp_path):
    line = 'smnist,lstm,accuracy_pct,<b>|9,,"<script>|`x`",2018\n'
    numbers = read_given(tmp_path, HEADER + line)
    study = synthetic.study([synthetic.run("lstm", "smnist", 784)], tmp_path)
    for text in (list_text(numbers), markdown(for_study(study, numbers))):
        assert "\\<script>\\|" in text
        assert "| \\<b>\\|9" in text


def test_an_unknown_task_names_the_nearest(numbers):
    with pytest.raises(UserError, match="did you mean 'smnist'"):
        select(numbers, task="smnst")
    with pytest.raises(UserError, match="no published architecture 'lsm'"):
        select(numbers, architecture="lsm")


def test_the_command_prints_what_is_asked():
    done = CliRunner().invoke(cli.app, ["published", "-t", "smnist", "-a", "lstm"])
    assert done.exit_code == 0
    assert "3 reported, not run" in done.stdout
    done = CliRunner().invoke(cli.app, ["published", "-t", "psmnist", "--format", "csv"])
    assert len(done.stdout.splitlines()) == 1 + 20
