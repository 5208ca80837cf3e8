"""The jobs of a study leave the queue, those of others stay, and Slurm's refusals are said."""

from pathlib import Path

import pytest

from bench.errors import UserError
from bench.launch.cancelling import cancel
from bench.launch.slurm import queue, submission
from bench.launch.slurm.submission import Submission, SubmittedArray
from bench.records.store import Store
from tests.test_claim import leave
from tests.test_status import held


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study that was submitted twice."""
    study = tmp_path / "a 'study'; $(x) StdErr= y"
    for stamp, arrays, pack in (("1", (11, 12), 13), ("2", (21,), None)):
        place = submission.folder_of(study) / stamp
        place.mkdir(parents=True)
        given = tuple(SubmittedArray(job_id=n, shape="1 thread", elements=()) for n in arrays)
        submitted = Submission(
            study_digest="", profile="cpu", submitted_at_unix_s=0.0, arrays=given, pack_job_id=pack
        )
        submission.write(place, submitted)
    return study


class Slurm:
    """Jobs that are alive, where they work, and what was asked of them."""

    def __init__(self, folder: Path, *tasks: queue.Task) -> None:
        self.tasks, self.words, self.refuses = tasks, [], ""
        self.places = {n: submission.folder_of(folder) / "1" for n in (11, 12, 13)}
        self.places[21] = submission.folder_of(folder) / "2"

    def live_tasks(self, job_ids) -> queue.Live:
        assert set(job_ids) == {11, 12, 13, 21}
        return queue.Live(self.tasks)

    def ask(self, words) -> queue.Answer:
        self.words.append(list(words))
        if words[0] == self.refuses:
            return queue.Answer("", "slurm_kill_job: Invalid user id")
        if words[0] == "scontrol":
            place = self.places[int(words[3])]
            return queue.Answer(f"JobId={words[3]} Comment=x WorkDir={place} StdErr=a StdOut=b\n")
        return queue.Answer("")

    @property
    def cancelled(self) -> list[str]:
        return [words[1] for words in self.words if words[0] == "scancel"]


@pytest.fixture
def slurm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    tasks = [queue.Task(11, 0, "running"), queue.Task(11, 1, "pending")]
    made = Slurm(folder, *tasks, queue.Task(13, None, "pending"), queue.Task(21, 4, "requeued"))
    monkeypatch.setattr(queue, "live_tasks", made.live_tasks)
    monkeypatch.setattr(queue, "ask", made.ask)
    return made


def test_every_live_job_is_cancelled_and_the_packing_before_it_could_begin(folder, slurm):
    assert list(cancel(folder)) == [
        "job 13 cancelled",
        "job 11 cancelled, 2 tasks",
        "job 21 cancelled",
    ]
    assert slurm.cancelled == ["13", "11", "21"]


def test_a_job_that_has_the_number_of_an_old_one_is_left_alone(folder, slurm, tmp_path):
    slurm.places[11] = tmp_path / "somebody else's"
    lines = list(cancel(folder))
    assert slurm.cancelled == ["13", "21"]
    assert any("job 11 is left alone" in line for line in lines)


def test_where_nothing_is_in_the_queue_that_is_said(folder, slurm):
    slurm.tasks = ()
    (line,) = cancel(folder)
    assert line.endswith("is in the queue")
    assert slurm.words == []


@pytest.mark.parametrize("command", ["scancel", "scontrol"])
def test_what_slurm_refuses_is_said_in_its_words(folder, slurm, command):
    slurm.refuses = command
    with pytest.raises(UserError, match=f"{command} says: slurm_kill_job: Invalid user id"):
        list(cancel(folder))


def test_without_an_answer_nothing_is_cancelled(folder, slurm, monkeypatch):
    silent = queue.Live(problem="squeue did not answer in 20 s")
    monkeypatch.setattr(queue, "live_tasks", lambda job_ids: silent)
    with pytest.raises(UserError, match="cannot ask Slurm what to cancel: squeue did not answer"):
        list(cancel(folder))
    assert slurm.words == []


def test_what_runs_outside_of_slurm_is_named(folder, slurm):
    class Run:
        id = "a" * 16

    slurm.tasks = ()
    descriptor = held(Store(folder), Run)
    assert len(list(cancel(folder))) == 1  # it is in a job
    log = folder / "work" / f"{Run.id}.log"
    leave(log, host="node7")
    lines = list(cancel(folder))
    assert lines[-1].startswith(f"{Run.id} runs outside of Slurm, on node7 process ")
    assert descriptor
