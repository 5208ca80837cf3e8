"""Trackers show rows, and are never needed: pushed once, replaced when changed, offline."""

import json
import sys

import pytest
from typer.testing import CliRunner

from bench import cli
from bench.errors import UserError
from bench.records.store import Store
from bench.trackers import shown, tensorboard
from bench.trackers.weights_and_biases import Pushed, push
from tests import synthetic
from tests.fake_wandb import FakeWandb
from tests.tracker_files import events, history, of_kind, offline_records

HOSTILE = {"name": "lstm", "label": "../<script>|x" + "y" * 300}


@pytest.fixture
def filled(tmp_path):
    runs = synthetic.runs(**synthetic.SMALL, tasks=("mqar",), seeds=2)
    store = Store(tmp_path)
    synthetic.fill(store, runs)
    return synthetic.study(runs, tmp_path), store


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)


def test_a_row_is_a_run_of_its_id_with_its_curves_and_numbers(filled):
    study, store = filled
    wandb = FakeWandb()
    rows = {row.id: row for row in store.rows()}
    assert push(wandb, study, store) == Pushed(sent=len(rows), unchanged=0)
    assert [run.given["id"] for run in wandb.runs] == sorted(rows)
    for run in wandb.runs:
        row = rows[run.given["id"]]
        assert run.given["mode"] == "offline"
        assert run.given["config"]["run"] == row.run
        assert run.summary["status"] == row.status
        assert (run.exit_code == 0) == (row.status == "ok")
        told = {name: dict(points) for name, points in row.curves.items()}
        for step, values in run.logged:
            assert values == {name: told[name][step] for name in values}
        assert sum(len(values) for _, values in run.logged) == sum(map(len, row.curves.values()))


def test_pushing_twice_sends_nothing_twice(filled):
    study, store = filled
    n = len(store.ids())
    push(FakeWandb(), study, store)
    wandb = FakeWandb()
    assert push(wandb, study, store) == Pushed(sent=0, unchanged=n)
    assert not wandb.runs
    assert push(wandb, study, store, again=True).sent == n


def test_a_row_that_changed_is_pushed_whole_under_its_id(filled):
    study, store = filled
    push(FakeWandb(), study, store)
    run = next(run for run in study.runs if run.purpose == "train")
    store.remove({run.id})
    store.write(synthetic.row(run, "timeout"))
    wandb = FakeWandb()
    assert push(wandb, study, store).sent == 1
    assert wandb.runs[0].given["id"] == run.id
    assert wandb.runs[0].given["tags"] == ["timeout"]


def test_packed_rows_are_as_live_ones(filled):
    study, store = filled
    push(FakeWandb(), study, store)
    store.pack()
    assert push(FakeWandb(), study, store).sent == 0


def test_what_was_sent_elsewhere_is_sent_here_too(filled, monkeypatch):
    study, store = filled
    n = len(store.ids())
    push(FakeWandb(), study, store)
    assert push(FakeWandb(), study, store, project="other").sent == n
    monkeypatch.setenv("WANDB_MODE", "online")
    assert push(FakeWandb(), study, store).sent == n


def test_a_push_that_is_killed_goes_on_where_it_was(filled):
    study, store = filled
    wandb = FakeWandb()
    begin = wandb.init

    def init(**given):
        if len(wandb.runs) == 3:
            raise KeyboardInterrupt
        return begin(**given)

    wandb.init = init
    with pytest.raises(KeyboardInterrupt):
        push(wandb, study, store)
    assert push(FakeWandb(), study, store) == Pushed(sent=len(store.ids()) - 3, unchanged=3)


def test_the_page_is_an_artifact_that_is_pushed_when_it_changed(filled, tmp_path):
    study, store = filled
    page = tmp_path / "report.html"
    page.write_text("<html></html>")
    for text, n_pages in (("one", 1), ("one", 0), ("two", 1)):
        page.write_text(text)
        wandb = FakeWandb()
        push(wandb, study, store, page=page)
        pages = [run for run in wandb.runs if run.artifacts]
        assert len(pages) == n_pages
        for run in pages:
            assert run.artifacts[0].files == [(str(page), "report.html")]


def test_rows_are_never_changed_by_a_push(filled):
    study, store = filled
    before = {path: path.read_bytes() for path in store.live_folder.iterdir()}
    push(FakeWandb(), study, store)
    assert before == {path: path.read_bytes() for path in store.live_folder.iterdir()}


def test_no_rows_are_no_runs(tmp_path):
    study = synthetic.study([synthetic.run()], tmp_path)
    assert push(FakeWandb(), study, Store(tmp_path)) == Pushed(0, 0)


def test_a_note_that_is_none_is_one_line(filled, tmp_path):
    study, store = filled
    note = tmp_path / "wandb" / "pushed.json"
    note.parent.mkdir()
    for text in ("[]", "{", '{"a": 3}'):
        note.write_text(text)
        with pytest.raises(UserError, match="delete it to push all") as raised:
            push(FakeWandb(), study, store)
        assert "\n" not in str(raised.value)


def test_steps_rise_and_what_is_missing_is_left_out():
    curves = {"a": [(20, 1.0), (10, None)], "b": [(10, 2.0), (20, float("nan"))]}
    assert shown.steps(curves) == [(10, {"b": 2.0}), (20, {"a": 1.0})]


def test_a_length_is_not_taken_for_a_step():
    curves = {"test_accuracy_by_length": [(10, 0.5)], "train_loss": [(20, 1.0)]}
    assert shown.steps(curves) == [(20, {"train_loss": 1.0})]


def test_names_are_as_short_as_they_have_to_be():
    row = synthetic.row(synthetic.run(HOSTILE))
    assert len(shown.name_of(row)) == shown.MAX_NAME
    name = tensorboard.folder_name(row)
    assert "/" not in name
    assert name.endswith(row.id)
    assert len(name.encode()) < 255


@pytest.mark.parametrize(
    ("package", "command", "extra"),
    [
        ("wandb", ["wandb", "push"], "seqbench[wandb]"),
        ("tensorboardX", ["tensorboard"], "seqbench[tensorboard]"),
    ],
)
def test_a_package_that_is_missing_is_one_line(tmp_path, monkeypatch, package, command, extra):
    monkeypatch.setitem(sys.modules, package, None)
    done = CliRunner().invoke(cli.app, [*command, str(tmp_path)])
    assert isinstance(done.exception, UserError)
    assert extra in str(done.exception)
    assert "\n" not in str(done.exception)


def test_the_package_itself_writes_runs_that_can_be_synced(filled, monkeypatch, tmp_path):
    """Read back from its own offline files."""
    wandb = pytest.importorskip("wandb", reason="the extra wandb is not installed")
    for variable in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    study, store = filled
    row = next(row for row in store.rows() if row.curves)
    store.set_aside(store.ids() - {row.id})
    page = tmp_path / "report.html"
    page.write_text("<html></html>")
    assert push(wandb, study, store, page=page).sent == 1
    wandb.teardown()
    files = sorted((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))
    assert {path.stem.removeprefix("run-") for path in files} >= {row.id}
    records = [record for path in files for record in offline_records(path)]
    (begun,) = [
        r.run for r in records if r.WhichOneof("record_type") == "run" and r.run.run_id == row.id
    ]
    config = {item.key: json.loads(item.value_json) for item in begun.config.update}
    assert config["run"] == row.run
    assert (begun.run_group, begun.job_type) == (study.name, "train")
    assert [(line["_step"], line["val_score"]) for line in history(records)] == [
        (int(step), value) for step, value in row.curves["val_score"]
    ]
    assert [one.exit_code for one in of_kind(records, "exit")] == [0, 0]


def test_event_files_hold_the_curves_and_the_numbers(filled, tmp_path):
    package = pytest.importorskip("tensorboardX", reason="the extra tensorboard is not installed")
    _, store = filled
    folder = tmp_path / "tensorboard"
    assert tensorboard.write(package, store, folder) == len(store.ids())
    row = next(row for row in store.rows() if row.curves)
    (path,) = (folder / tensorboard.folder_name(row)).iterdir()
    found = {}
    for event in events(path):
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found[value.tag, event.step] = value.simple_value
    for step, score in row.curves["val_score"]:
        assert found["val_score", step] == pytest.approx(score)
    assert found["final/test_score", 300] == pytest.approx(row.metrics["test_score"])


def test_the_folder_of_a_run_that_may_be_at_work_is_kept(filled, tmp_path):
    package = pytest.importorskip("tensorboardX", reason="the extra tensorboard is not installed")
    _, store = filled
    folder = tmp_path / "tensorboard"
    tensorboard.write(package, store, folder)
    first, second, *_ = sorted(store.ids())
    store.remove({first, second})
    tensorboard.write(package, store, folder, keep={first})
    assert {path.name[-16:] for path in folder.iterdir()} == {first, *store.ids()}


def test_event_files_are_written_anew_and_those_of_no_row_are_deleted(filled, tmp_path):
    package = pytest.importorskip("tensorboardX", reason="the extra tensorboard is not installed")
    _, store = filled
    folder = tmp_path / "tensorboard"
    tensorboard.write(package, store, folder)
    before = sorted(path.name for path in folder.iterdir())
    (folder / "mine").mkdir()
    tensorboard.write(package, store, folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted([*before, "mine"])
    assert all(len(list(path.iterdir())) == 1 for path in folder.iterdir() if path.name != "mine")
    gone = min(store.ids())
    store.remove({gone})
    tensorboard.write(package, store, folder)
    assert len(list(folder.iterdir())) == len(before)
