"""Submitting: everything at once, only what is missing, nothing if anything is wrong."""

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.cli import app
from bench.commands.submit import sweep_on_slurm
from bench.errors import UserError
from bench.launch.slurm import folders, queue, submission, submit
from bench.launch.slurm.profile import Profile
from bench.records.row import Row
from bench.records.store import Store
from bench.spec import Run
from tests.fake_slurm import FakeSlurm

STUDY = """
title: t
base: {width: 16, training: {steps: 6, batch_size: 8}}
grid:
  architecture: [gru, rnn]
  task: [parity]
  length: [12]
  seed: [0, 1, 2]
"""
TWO_SHAPES = STUDY + "  resources.threads: [1, 2]\n"
HOSTILE = "a b'c\"d$(touch pwned)`touch pwned`\\;|&%A é\nx"


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    fake = FakeSlurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", str(fake.bin))
    for name in ("sbatch", "squeue", "scontrol"):
        fake.add(name)
    return fake


def a_study(folder: Path, text: str = STUDY) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.yaml").write_text(text)
    return folder


def a_profile(folder: Path, text: str = "") -> str:
    file = folder / "profile.yaml"
    file.write_text(f"shared_folders: true\n{text}\n")
    return str(file)


def finish(study: Path, runs: list[Run]) -> None:
    for run in runs:
        Store(study).write(Row(id=run.id, study="s", status="ok", run=run.model_dump(mode="json")))


def submitted(study: Path) -> list[submission.Submission]:
    return list(submission.submissions(study).values())


def runs_of(study: Path, array: submission.SubmittedArray) -> list[Run]:
    (folder,) = submission.submissions(study)
    found = []
    for index in range(len(array.elements)):
        found += submission.read_plan(folder / "plan-0.jsonl", index)[1]
    return found


def real_submissions(slurm: FakeSlurm) -> list[list[str]]:
    return [words for words in slurm.calls("sbatch") if "--test-only" not in words]


def test_one_array_for_each_shape_and_a_job_that_packs_after_them(tmp_path, slurm):
    study = a_study(tmp_path / "study", TWO_SHAPES)
    sweep_on_slurm(study, a_profile(tmp_path), dry_run=False)
    first, second, packing = real_submissions(slurm)
    (done,) = submitted(study)
    assert [array.job_id for array in done.arrays] == [102, 103]  # two tries came before
    assert done.pack_job_id == 104
    assert "--dependency=afterany:102:103" in packing
    assert not [word for word in first + second if word.startswith("--dependency")]
    (folder,) = submission.submissions(study)
    assert {f"--chdir={folder}", "--output=%A_%a.log"} <= set(first)
    assert "--array=0-0" in (folder / "element-0.sbatch").read_text()
    everything = {run_id for run_id, _, _ in done.cells()}
    assert len(everything) == 12


def test_what_is_planned_is_what_the_study_asks_for(tmp_path, slurm):
    study = a_study(tmp_path / "study")
    sweep_on_slurm(study, a_profile(tmp_path, "target_minutes: 2.1"), dry_run=False)
    (done,) = submitted(study)
    (array,) = done.arrays
    assert [len(element) for element in array.elements] == [2, 2, 2]
    runs = runs_of(study, array)
    assert [run.id for run in runs] == [i for element in array.elements for i in element]
    assert {(run.architecture.name, run.seed) for run in runs} == {
        (name, seed) for name in ("gru", "rnn") for seed in range(3)
    }


def test_only_missing_cells_are_submitted(tmp_path, slurm, capsys):
    from bench.study import load

    study = a_study(tmp_path / "study")
    runs = load(study).runs
    finish(study, list(runs[:4]))
    sweep_on_slurm(study, a_profile(tmp_path), dry_run=False)
    (done,) = submitted(study)
    assert {i for i, _, _ in done.cells()} == {run.id for run in runs[4:]}
    finish(study, list(runs[4:]))
    before = len(slurm.calls("sbatch"))
    sweep_on_slurm(study, a_profile(tmp_path), dry_run=False)
    assert "0 cells to submit, 6 done" in capsys.readouterr().out
    assert len(slurm.calls("sbatch")) == before


def test_cells_of_a_live_job_are_not_submitted_again(tmp_path, slurm, capsys):
    study = a_study(tmp_path / "study")
    profile = a_profile(tmp_path, "target_minutes: 2.1")
    sweep_on_slurm(study, profile, dry_run=False)
    (first,) = submitted(study)
    job = first.arrays[0].job_id
    words = (job, 1, "PENDING", 0, "", "Resources")
    columns = zip(words, queue.FIELDS, strict=True)
    slurm.add("squeue", {"output": "".join(f"{word!s:{size}}" for word, (_, size) in columns)})
    sweep_on_slurm(study, profile, dry_run=False)
    _, second = submitted(study)
    assert {i for i, _, _ in second.cells()} == {i for i, _, index in first.cells() if index != 1}
    assert "2 cells are on their way already" in capsys.readouterr().out


def test_a_queue_that_does_not_answer_is_said_and_the_lock_guards(tmp_path, slurm, capsys):
    study = a_study(tmp_path / "study")
    sweep_on_slurm(study, a_profile(tmp_path), dry_run=False)
    slurm.add("squeue", {"error": "Unable to contact slurm controller", "code": 1})
    sweep_on_slurm(study, a_profile(tmp_path), dry_run=False)
    assert "Unable to contact slurm controller; none of them runs twice" in capsys.readouterr().out
    assert len(submitted(study)) == 2


def test_a_dry_run_shows_the_scripts_and_touches_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    study = a_study(tmp_path / "study", TWO_SHAPES)
    sweep_on_slurm(study, a_profile(tmp_path, "partition: fast"), dry_run=True)
    shown = capsys.readouterr().out
    assert shown.count("#SBATCH --array=") == 2
    assert shown.count("#SBATCH --partition=fast") == 3
    assert "12 cells to submit, in 2 jobs of 2 arrays" in shown
    assert os.listdir(study) == ["study.yaml"]  # noqa: PTH208


REFUSALS = [
    ("sbatch: error: invalid partition specified: fast", "invalid partition specified: fast"),
    (
        "allocation failure: Requested node configuration is not available",
        "Requested node configuration is not available",
    ),
]


@pytest.mark.parametrize(("said", "words"), REFUSALS)
def test_what_slurm_refuses_is_said_in_its_own_words_before_anything_is_submitted(
    tmp_path, slurm, said, words
):
    study = a_study(tmp_path / "study", TWO_SHAPES)
    slurm.add("sbatch", {"error": f"{said}\n", "code": 1})
    with pytest.raises(UserError, match=words) as caught:
        sweep_on_slurm(study, a_profile(tmp_path), dry_run=False)
    assert "\n" not in str(caught.value)
    assert not real_submissions(slurm)
    assert not submitted(study)


def test_what_is_tried_is_what_would_be_submitted(tmp_path, slurm):
    study = a_study(tmp_path / "study")
    sweep_on_slurm(study, a_profile(tmp_path), dry_run=False)
    tried = slurm.records("sbatch")[0]
    (folder,) = submission.submissions(study)
    assert tried["input"] == (folder / "element-0.sbatch").read_text()


def test_without_slurm_the_message_says_where_to_submit(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="no sbatch on the PATH"):
        sweep_on_slurm(a_study(tmp_path / "study"), a_profile(tmp_path), dry_run=False)


def test_an_array_that_is_refused_late_names_what_is_submitted(tmp_path, slurm):
    study = a_study(tmp_path / "study", TWO_SHAPES)
    slurm.add("sbatch", {}, {}, {"output": "7\n"}, {"error": "QOSMaxSubmitJob", "code": 1})
    with pytest.raises(UserError, match="1 of 2 arrays are submitted; sbatch says: QOSMaxSubmit"):
        sweep_on_slurm(study, a_profile(tmp_path), dry_run=False)
    (done,) = submitted(study)
    assert [array.job_id for array in done.arrays] == [7]


def test_a_packing_job_that_is_refused_does_no_harm(tmp_path, slurm, capsys):
    study = a_study(tmp_path / "study")
    slurm.add("sbatch", {}, {"output": "12;cluster\n"}, {"error": "no GPU asked for", "code": 1})
    sweep_on_slurm(study, a_profile(tmp_path), dry_run=False)
    (done,) = submitted(study)
    assert (done.arrays[0].job_id, done.pack_job_id) == (12, None)
    assert "will not be packed at the end: sbatch says: no GPU" in capsys.readouterr().out


def test_a_folder_of_this_machine_alone_is_refused(tmp_path, slurm, monkeypatch):
    study = a_study(tmp_path / "study")
    (tmp_path / "profile.yaml").write_text("{}")
    monkeypatch.setattr(submit, "why_hidden", lambda folder: "tmpfs is this machine's own")
    with pytest.raises(
        UserError, match=r"compute nodes do not see .*: tmpfs is this machine's own"
    ):
        sweep_on_slurm(study, str(tmp_path / "profile.yaml"), dry_run=False)
    assert not slurm.calls("sbatch")


MOUNTS = r"""
21 1 8:1 / / rw - ext4 /dev/sda1 rw
22 21 0:5 / /scratch\040space rw - lustre x rw
23 21 0:6 / /memory rw - tmpfs tmpfs rw
24 23 0:7 / /memory/home rw shared:1 - nfs4 server:/home rw
"""


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("/home/me", None),
        ("/scratch space/me", None),
        ("/memory/me", "tmpfs"),
        ("/memory/home/me", None),
        ("/tmp/me", "/tmp"),
        ("/dev/shm/me", "/dev/shm"),
    ],
)
def test_a_file_system_tells_whether_other_machines_see_it(tmp_path, place, words):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    why = folders.why_hidden(Path(place), mounts)
    assert why is None if words is None else words in why


def test_cells_for_gpus_need_a_profile_with_gpus(tmp_path, slurm):
    study = a_study(
        tmp_path / "study", STUDY.replace("width: 16", "width: 16, resources: {accelerator: cuda}")
    )
    with pytest.raises(UserError, match="has no GPUs; give it the key gpus: any"):
        sweep_on_slurm(study, a_profile(tmp_path), dry_run=False)
    study = a_study(
        tmp_path / "study", STUDY.replace("width: 16", "width: 16, resources: {devices: 4}")
    )
    with pytest.raises(UserError, match=r"resources.devices 4, and profile .* gres gpu:a100:2"):
        sweep_on_slurm(study, a_profile(tmp_path, "gres: gpu:a100:2"), dry_run=False)


def test_hostile_names_are_only_names(tmp_path, slurm):
    study = a_study(tmp_path / HOSTILE)
    sweep_on_slurm(study, a_profile(tmp_path, "partition: p"), dry_run=False)
    (words, packing) = real_submissions(slurm)
    (folder,) = submission.submissions(study)
    assert {f"--chdir={folder}", "--output=/dev/null"} <= set(words)  # a % in a folder's name
    assert [word for word in words if word.startswith("--job-name=seqbench-a-b-c-d")]
    assert not [w for w in words + packing if w.startswith("-") and not w.startswith("--")]
    assert "pwned" not in (folder / "element-0.sbatch").read_text()
    assert not list(tmp_path.rglob("pwned"))
    header, _ = submission.read_plan(folder / "plan-0.jsonl", 0)
    assert header.folder == study


def test_a_submission_that_cannot_be_read_is_left_out(tmp_path, slurm):
    study = a_study(tmp_path / "study")
    sweep_on_slurm(study, a_profile(tmp_path), dry_run=False)
    other = submission.folder_of(study) / "20200101-000000"
    other.mkdir()
    (other / "submission.json").write_text("{")
    assert len(submitted(study)) == 1


def test_a_plan_that_a_node_does_not_see_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*plan-0.jsonl: No such file.*all nodes see"):
        submission.read_plan(tmp_path / "plan-0.jsonl", 0)
    (tmp_path / "plan-0.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="is no plan of this seqbench"):
        submission.read_plan(tmp_path / "plan-0.jsonl", 0)


def test_an_element_that_a_plan_does_not_have_is_an_error(tmp_path):
    header = submission.PlanHeader(
        study="s", folder=tmp_path, study_file=tmp_path, study_digest="x", max_requeues=1
    )
    submission.write_plan(tmp_path / "plan.jsonl", header, [])
    with pytest.raises(UserError, match="has no element 0"):
        submission.read_plan(tmp_path / "plan.jsonl", 0)


def test_a_longest_time_shortens_the_target(tmp_path):
    from bench.study import load

    study = a_study(tmp_path / "study")
    loaded = load(study)
    profile = Profile(time="4", warning_s=60, target_minutes=600)
    asked = submit.request(loaded, study / "study.yaml", profile, "p", loaded.runs, [])
    assert {len(element.runs) for element in asked.arrays[0].elements} == {3}
    assert json.loads(asked.arrays[0].elements[0].runs[0].model_dump_json())


def test_the_command_line_submits(tmp_path, slurm):
    study = a_study(tmp_path / "study")
    words = ["sweep", str(study), "--slurm", a_profile(tmp_path)]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert "6 cells in 1 job of about 6.03 minutes (1 thread)" in done.output
    assert "packs the rows when the others have ended" in done.output
    with pytest.raises(UserError, match="--workers is for this machine"):
        CliRunner().invoke(app, [*words, "--workers", "2"], catch_exceptions=False)


def test_a_cell_that_cannot_be_built_is_named_before_anything_is_submitted(tmp_path, slurm):
    study = a_study(tmp_path / "study", STUDY.replace("rnn", "rnnn"))
    with pytest.raises(UserError, match=r"study: no architecture 'rnnn'; did you mean 'rnn'\?"):
        sweep_on_slurm(study, a_profile(tmp_path), dry_run=False)
    assert not slurm.calls("sbatch")


def test_what_jobs_call_is_not_listed():
    listed = CliRunner().invoke(app, ["--help"]).output
    assert "sweep" in listed
    assert " work " not in listed
