"""The command line: answers at once, errors in one line, nothing written by a mistake."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

STUDY = """
title: Small
base:
  width: 8
  training: {steps: 4, batch_size: 4}
grid:
  architecture: [gru, bilstm_stack]
  task: [python_bytes]
  length: [16]
  seed: [0, 1]
"""


def bench(*words: object, cwd: Path | None = None, **environment: str):
    return subprocess.run(
        [sys.executable, "-m", "bench", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
        timeout=240,
    )


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def write_study(folder: Path, text: str = STUDY) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.yaml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that has been run, in a folder whose name has to be quoted."""
    folder = write_study(tmp_path_factory.mktemp("a $(folder) 'of' results"))
    done = bench("sweep", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.parametrize("words", [["--help"], ["list", "tasks"], ["list", "architectures"]])
def test_help_and_list_import_nothing_heavy(words):
    code = (
        "import sys; sys.argv[1:] = sys.argv[1:]\n"
        "from bench.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'torch', 'lightning', 'pandas', 'numpy', 'altair'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_table_imports_no_torch(swept):
    code = (
        "import sys\nfrom bench.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert not {'torch', 'lightning', 'altair', 'scipy'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "table", str(swept)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_list_describes_everything_that_is_registered():
    from architectures import ARCHITECTURES
    from bench.listing import descriptions
    from tasks import TASKS

    assert descriptions("architectures").keys() == ARCHITECTURES.keys()
    assert descriptions("tasks").keys() == TASKS.keys()
    for name, cls in {**ARCHITECTURES, **TASKS}.items():
        catalogue = "tasks" if name in TASKS else "architectures"
        line = descriptions(catalogue)[name]
        assert line == (cls.__doc__ or "").partition("\n")[0]
        assert 10 < len(line) <= 100


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("gru, ", "gruu, "), "no architecture 'gruu'; did you mean 'gru'? choices:"),
        (("python_bytes", "python_byte"), "no task 'python_byte'; did you mean 'python_bytes'?"),
        (("gru, ", "{name: gru, layer: 1}, "), "no key 'layer'; did you mean 'layers'?"),
        (("gru, ", "{name: gru, layers: two}, "), "layers: input should be a valid integer"),
        (("gru, ", "{name: gru, layers: 0}, "), "layers must be at least 1"),
        (("gru, ", "{name: gru, init: identiti}, "), "choices: default, orthogonal"),
        (("[python_bytes]", "[{name: mqar, n_pairs: 5}]"), "mqar(n_pairs=5) at length 16"),
        (("[python_bytes]", "[digits]\n  width: [8]\n  length: [17]"), "stands twice"),
        (("[16]", "[]"), "length is an empty list"),
        (("training:", "trainning:"), "did you mean 'training'?"),
        (("steps: 4", "steps: '4'"), "steps: input should be a valid integer"),
        (("width: 8", "width: 7"), "architecture bilstm_stack"),
    ],
)
def test_a_wrong_study_is_one_line_and_exit_code_2_and_writes_nothing(tmp_path, change, message):
    study = write_study(tmp_path, STUDY.replace(*change))
    for words in (["sweep", study], ["sweep", study, "--dry-run"]):
        done = bench(*words)
        assert done.returncode == 2, done.stdout
        assert message in done.stderr
        assert done.stderr.startswith("bench: ")
        assert done.stderr.count("\n") == 1
        assert files_below(tmp_path) == {"study.yaml"}


def test_a_length_that_the_task_cannot_make_names_those_it_can(tmp_path):
    text = STUDY.replace("python_bytes", "digits").replace("[16]", "[17]")
    done = bench("sweep", write_study(tmp_path, text))
    assert done.returncode == 2
    assert "length must be one of [16, 64, 256, 1024], not 17" in done.stderr


def test_a_missing_package_is_named_with_the_command_that_installs_it(tmp_path):
    study = write_study(tmp_path / "study", STUDY.replace("python_bytes", "digits"))
    hide = tmp_path / "hide"
    hide.mkdir()
    (hide / "sitecustomize.py").write_text(
        "import importlib.metadata as m, importlib.util as u\n"
        "find, files = u.find_spec, m.distribution\n"
        "hidden = lambda name: name.split('.')[0] == 'sklearn'\n"
        "u.find_spec = lambda name, *a: None if hidden(name) else find(name, *a)\n"
        "def gone(name):\n"
        "    if name == 'scikit-learn':\n        raise m.PackageNotFoundError(name)\n"
        "    return files(name)\n"
        "m.distribution = gone\n"
    )
    done = bench("sweep", study, PYTHONPATH=str(hide))
    assert done.returncode == 2, done.stdout + done.stderr
    assert "task 'digits' needs scikit-learn: pip install 'seqbench[data]'" in done.stderr
    assert files_below(study) == {"study.yaml"}


def test_the_plan_is_printed_and_nothing_is_run(tmp_path):
    study = write_study(tmp_path)
    done = bench("sweep", study, "--dry-run")
    assert done.returncode == 0
    assert "4 cells to run, 0 done" in done.stdout
    assert "gru python_bytes length 16 seed 1" in done.stdout
    assert files_below(tmp_path) == {"study.yaml"}


def test_a_second_sweep_runs_nothing(swept):
    done = bench("sweep", swept)
    assert done.returncode == 0
    assert done.stdout == "0 cells to run, 4 done\n"


def test_unsupported_pairs_are_rows(swept):
    rows = json.loads(bench("table", swept, "--format", "json").stdout)
    by_name = {(row["architecture"], row["seed"]): row for row in rows}
    assert len(rows) == 4
    assert by_name["bilstm_stack", 0]["status"] == "unsupported"
    assert "reads ahead" in by_name["bilstm_stack", 0]["reason"]
    assert by_name["gru", 0]["status"] == "ok"
    assert by_name["gru", 0]["test_bits_per_byte"] > 0


def test_a_model_that_cannot_stream_is_a_row_and_the_rest_of_the_study_runs(tmp_path):
    text = STUDY.replace("bilstm_stack", "{name: hf, model_type: xlnet}")
    text = text.replace("python_bytes", "parity").replace("[0, 1]", "[0]")
    study = write_study(tmp_path, text)
    done = bench("sweep", study)
    assert done.returncode == 0, done.stderr
    rows = json.loads(bench("table", study, "--format", "json").stdout)
    by_status = {row["status"]: row for row in rows}
    assert sorted(by_status) == ["ok", "unsupported"]
    assert "xlnet has no cache" in by_status["unsupported"]["reason"]


@pytest.mark.parametrize("format_", ["md", "csv", "json", "parquet"])
def test_tables_come_in_every_format_and_twice_alike(swept, format_):
    words = [sys.executable, "-m", "bench", "table", str(swept), "--format", format_]
    first, second = (subprocess.check_output(words) for _ in range(2))
    assert first == second
    assert len(first) > 100


def test_the_leaderboard_is_checked(swept):
    assert bench("leaderboard", swept, "--check").returncode == 1
    assert bench("leaderboard", swept).returncode == 0
    assert bench("leaderboard", swept, "--check").returncode == 0
    board = swept / "LEADERBOARD.md"
    board.write_text(board.read_text() + "\nand we win\n")
    done = bench("leaderboard", swept, "--check")
    assert done.returncode == 1
    assert "stale" in done.stdout
    assert bench("leaderboard", swept).returncode == 0


def test_the_page_is_written(swept):
    done = bench("report", swept)
    assert done.returncode == 0, done.stderr
    assert (swept / "report.html").stat().st_size > 100_000


def test_packed_rows_are_read_as_live_ones(tmp_path, swept):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(swept, copy)
    before = bench("table", copy, "-f", "csv").stdout
    assert bench("pack", copy).returncode == 0
    assert not list((copy / "rows").glob("*.json"))
    assert bench("table", copy, "-f", "csv").stdout == before
    assert bench("sweep", copy).stdout == "0 cells to run, 4 done\n"


def test_rows_of_another_spec_are_an_error_and_can_be_moved_aside(tmp_path, swept):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(swept, copy)
    write_study(copy, STUDY.replace("steps: 4", "steps: 5"))
    for words in (["table", copy], ["leaderboard", copy], ["report", copy, "--out", copy / "r"]):
        done = bench(*words)
        assert done.returncode == 2
        assert "training.steps" in done.stderr
        assert "bench prune" in done.stderr
        assert done.stderr.count("\n") == 1
    assert not (copy / "r").exists()
    assert "4 rows moved" in bench("prune", copy).stdout
    assert bench("table", copy).returncode == 0
    assert len(list((copy / "rows.other").iterdir())) == 4


def test_a_half_written_row_is_named(tmp_path, swept):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(swept, copy)
    row = next((copy / "rows").glob("*.json"))
    row.write_text(row.read_text()[:100])
    done = bench("table", copy)
    assert done.returncode == 2
    assert row.name in done.stderr
    assert done.stderr.count("\n") == 1


def test_retry_runs_what_ended_badly_again(tmp_path):
    study = write_study(
        tmp_path, STUDY.replace("steps: 4", "steps: 100000") + "  resources.timeout_s: [3]\n"
    )
    assert bench("sweep", study).returncode == 0
    rows = json.loads(bench("table", study, "-f", "json").stdout)
    assert {row["status"] for row in rows} == {"timeout", "unsupported"}
    done = bench("retry", study, "--only", "unsupported")
    assert "2 rows moved" in done.stdout, done.stderr
    rows = json.loads(bench("table", study, "-f", "json").stdout)
    assert {row["status"] for row in rows} == {"timeout", "unsupported"}
    assert "did you mean 'timeout'" in bench("retry", study, "--only", "timeot").stderr


def test_a_single_run_prints_its_row_and_ends_in_it(tmp_path):
    words = ["run", "-a", "gru", "-t", "parity", "-l", 8, "--set", "training.steps=3"]
    words += ["--set", "width=8", "--into", tmp_path / "runs"]
    done = bench(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_accuracy" in done.stdout
    assert len(list((tmp_path / "runs" / "rows").glob("*.json"))) == 1
    wrong = bench("run", "-a", "gru", "-t", "parity", "-l", 8, "--set", "training.stesp=3")
    assert wrong.returncode == 2
    assert "did you mean 'steps'" in wrong.stderr


def test_doctor_names_the_kernel_of_every_architecture():
    from architectures import ARCHITECTURES

    done = bench("doctor")
    assert done.returncode == 0, done.stderr
    for name in ARCHITECTURES:
        assert any(line.split()[:1] == [name] for line in done.stdout.splitlines())


def test_a_certificate_has_a_line_for_each_law():
    from bench.certify.laws import LAWS

    done = bench("certify", "gru", "gru")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines.pop(0) == ["gru", "kernel", "aten"]  # of float64
    assert [line[1] for line in lines] == list(LAWS)
    assert {(line[0], line[2], line[4]) for line in lines} == {("gru", "holds", "<=")}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gru", "grru"], "no architecture 'grru'; did you mean 'gru'? choices: "),
        (["gru", "--dtype", "float46"], "float46"),
        (["gru", "--format", "mdd"], "mdd"),
    ],
)
def test_a_wrong_certify_is_exit_code_2_and_runs_nothing(words, message):
    done = bench("certify", *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("unbuffered", ["", "1"])  # written at the end, or line by line
@pytest.mark.parametrize("words", [["sweep", "--dry-run"], ["table", "-f", "csv"]])
def test_without_a_reader_a_command_ends_without_a_word(tmp_path, words, unbuffered):
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [sys.executable, "-m", "bench", *words, write_study(tmp_path)],
        stdout=write_end,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        timeout=240,
    )
    os.close(write_end)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


def test_output_that_was_closed_from_the_start_is_no_error(tmp_path):
    study = "title: T\nbase: {task: parity, length: 16}\ngrid: {architecture: [lstm]}\n"
    (tmp_path / "study.yaml").write_text(study)
    script = f"'{sys.executable}' -m bench table '{tmp_path}' >&-"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_of_one_line_gets_it():
    script = f"set -o pipefail; '{sys.executable}' -m bench list tasks | head -1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert done.stdout.startswith("adding ")
    assert (done.stdout.count("\n"), done.stderr) == (1, "")
    assert done.returncode in (0, 128 + signal.SIGPIPE)
