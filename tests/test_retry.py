"""Cells that ended badly or were lost run again, with more of something, and no other cell does."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench.commands import retry as retry_command
from bench.commands import submit as submit_command
from bench.commands.retry import resources_of, retry, states_of, with_resources
from bench.errors import UserError
from bench.launch import status
from bench.launch.slurm import submission
from bench.launch.slurm.submission import OnTheWay
from bench.records.store import Store
from bench.study import load
from tests import synthetic
from tests.test_claim import leave
from tests.test_status import STUDY, log_of, task_of

ENDED = ("ok", "failed", "oom", "timeout", "diverged", "preempted", "unsupported")


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cell of every status, one that is lost, and two that nobody has begun."""
    monkeypatch.setattr(status, "on_the_way", lambda folder, missing: OnTheWay({}))
    monkeypatch.setattr(submission, "on_the_way", lambda folder, missing: OnTheWay({}))
    folder = tmp_path / "a 'study'; $(x)"
    (folder / "work").mkdir(parents=True)
    (folder / "study.yaml").write_text(STUDY)
    store = Store(folder)
    runs = load(folder).runs
    for run, ended in zip(runs, ENDED, strict=False):
        store.write(synthetic.row(run, ended))
    leave(log_of(store, runs[7]))
    return folder


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[set[int], object]]:
    """Seeds that were to be run, and with which resources, instead of running them."""
    calls: list[tuple[set[int], object]] = []

    def run_here(name: str, store: Store, planned, workers: int | None, trackers) -> None:
        assert trackers == ()
        runs = [*planned.train, *planned.measure]
        assert planned.done == 10 - len(runs)
        assert not {run.id for run in runs} & store.ids()
        resources = {run.resources for run in runs}
        calls.append(({run.seed for run in runs}, *resources))

    monkeypatch.setattr(retry_command, "run_here", run_here)
    return calls


@pytest.mark.parametrize(
    ("only", "seeds"),
    [
        (retry_command.DEFAULT_ONLY, {1, 2, 3, 4, 5, 7}),
        ("oom", {2}),
        ("oom, timeout", {2, 3}),
        ("lost", {7}),
        ("ok", {0}),
        ("unsupported,lost", {6, 7}),
    ],
)
@pytest.mark.parametrize("pack", [False, True])
def test_those_that_are_asked_for_run_again_and_their_rows_are_kept(
    study, asked, only, seeds, pack
):
    store = Store(study)
    if pack:
        store.pack()
    before = {row.run["seed"]: row for row in store.rows()}
    retry(study, only)
    ((found, resources),) = asked
    assert found == seeds
    assert resources == synthetic.run().resources
    left = {row.run["seed"]: row for row in store.rows()}
    assert left == {seed: row for seed, row in before.items() if seed not in seeds}
    aside = {path.stem for path in store.aside_folder.iterdir()} if seeds - {7} else set()
    assert aside == {before[seed].id for seed in seeds & before.keys()}


def test_more_of_something_changes_no_id(study, asked):
    retry(study, "oom,timeout", ["memory=8GiB", "time=1h30m"])
    ((seeds, resources),) = asked
    assert seeds == {2, 3}
    assert (resources.memory_bytes, resources.timeout_s) == (8 * 2**30, 5400.0)
    run = synthetic.run(seed=2)
    changed = with_resources(run, {"memory_bytes": 1, "timeout_s": 2.0})
    assert (changed.id, changed.setting) == (run.id, run.setting)
    assert changed.resources != run.resources


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([], {}),
        (["memory=8GiB"], {"memory_bytes": 8 * 2**30}),
        (["memory=16G"], {"memory_bytes": 16 * 2**30}),
        (["memory=1.5G"], {"memory_bytes": 3 * 2**29}),
        (["memory=500M"], {"memory_bytes": 500 * 2**20}),
        (["time=2h"], {"timeout_s": 7200.0}),
        (["time=90m"], {"timeout_s": 5400.0}),
        (["time=1d2h3m4.5s"], {"timeout_s": 93784.5}),
        (["time=1h", "time=2h"], {"timeout_s": 7200.0}),
    ],
)
def test_sizes_and_times_are_read(changes, expected):
    assert resources_of(changes) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("memory", "--with takes KEY=VALUE"),
        ("", "--with takes KEY=VALUE"),
        ("memry=8GiB", "did you mean 'memory'? choices: memory, time"),
        ("memory=", "takes a size such as 8GiB"),
        ("memory=8", "takes a size such as 8GiB"),
        ("memory=0G", "takes a size such as 8GiB"),
        ("memory=-1G", "takes a size such as 8GiB"),
        ("memory=$(id)", "takes a size such as 8GiB"),
        ("memory=nan", "takes a size such as 8GiB"),
        ("time=", "takes a time such as 2h"),
        ("time=2", "takes a time such as 2h"),
        ("time=0s", "takes a time such as 2h"),
        ("time=-2h", "takes a time such as 2h"),
        ("time=2h!", "takes a time such as 2h"),
        ("time=inf", "takes a time such as 2h"),
        ("time=2h\n", "takes a time such as 2h"),
    ],
)
def test_a_wrong_change_is_one_line_and_moves_nothing(study, asked, change, message):
    before = Store(study).ids()
    with pytest.raises(UserError) as caught:
        retry(study, changes=[change])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (Store(study).ids(), asked) == (before, [])


def test_a_wrong_status_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'lost'"):
        states_of("lots")
    with pytest.raises(UserError, match="no status ''"):
        states_of("oom,")
    assert states_of("ok,lost") == {"done", "lost"}


def test_a_row_that_cannot_be_read_is_no_cell_to_run_again(study, asked):
    damaged = next(iter(sorted((study / "rows").iterdir())))
    damaged.write_text("{")
    with pytest.raises(UserError, match=damaged.name):
        retry(study)
    assert asked == []


def submitted(monkeypatch: pytest.MonkeyPatch, error: UserError | None = None) -> list[set[int]]:
    calls: list[set[int]] = []

    def submit_runs(study, loaded, store, runs, profile, *, dry_run, trackers) -> None:
        assert (profile, dry_run, trackers) == ("cpu", False, ())
        assert not {run.id for run in runs} & store.ids()
        if error is not None:
            raise error
        calls.append({run.seed for run in runs})

    monkeypatch.setattr(submit_command, "submit_runs", submit_runs)
    return calls


def test_with_a_profile_they_are_submitted(study, asked, monkeypatch):
    calls = submitted(monkeypatch)
    retry(study, "oom,lost", slurm="cpu")
    assert (calls, asked) == ([{2, 7}], [])


def test_rows_are_back_if_the_cluster_refuses(study, monkeypatch):
    submitted(monkeypatch, UserError("sbatch says: no"))
    store = Store(study)
    store.pack()
    before = list(store.rows())
    with pytest.raises(UserError, match="sbatch says: no"):
        retry(study, slurm="cpu")
    assert list(store.rows()) == before


def test_a_cell_whose_job_is_still_at_work_keeps_its_row(study, monkeypatch, capsys):
    """The job would not do it again, and the launcher would take it for one that is on its way."""
    calls = submitted(monkeypatch)
    runs = {run.seed: run for run in load(study).runs}
    busy = OnTheWay({runs[2].id: task_of(state="running")})
    monkeypatch.setattr(submission, "on_the_way", lambda folder, ids: busy)
    retry(study, "oom,timeout", slurm="cpu")
    assert calls == [{3}]
    assert runs[2].id in Store(study).ids()
    assert "1 cells are of jobs that still work" in capsys.readouterr().out
    retry(study, "oom", slurm="cpu")
    assert calls == [{3}]


def test_the_workers_of_this_machine_are_no_part_of_a_profile(study):
    with pytest.raises(UserError, match="--workers is for this machine"):
        retry(study, workers=2, slurm="cpu")


@pytest.mark.slow
def test_a_cell_that_was_too_slow_runs_with_more_time(tmp_path):
    text = STUDY.replace("steps: 300", "steps: 2, batch_size: 2").replace("lstm", "gru")
    text = text.replace("[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]", "[0]\n  resources.timeout_s: [0.001]")
    (tmp_path / "study.yaml").write_text(text)

    def bench(*words: object):
        command = [sys.executable, "-m", "bench", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, timeout=240)

    assert bench("sweep", tmp_path).returncode == 0
    store = Store(tmp_path)
    assert set(store.statuses().values()) == {"timeout"}
    done = bench("retry", tmp_path, "--with", "time=10m")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 rows moved" in done.stdout
    (row,) = store.rows()
    assert row.status == "ok"
    assert row.run["resources"]["timeout_s"] == 600.0
    assert bench("retry", tmp_path).stdout.endswith("0 cells to run, 1 done\n")
