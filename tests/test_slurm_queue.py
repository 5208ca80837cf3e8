"""Asking Slurm: an answer is read as it is meant, and no answer harms nobody."""

import pytest

from bench.launch.slurm import queue
from tests.fake_slurm import FakeSlurm


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    fake = FakeSlurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", str(fake.bin))
    return fake


def line(*words: object) -> str:
    """A line as squeue prints it."""
    columns = zip(words, queue.FIELDS, strict=True)
    return "".join(f"{word!s:{size}}" for word, (_, size) in columns) + "\n"


def test_the_tasks_of_an_array_are_told_one_by_one(slurm):
    slurm.add(
        "squeue",
        {
            "output": line(123, "[4-9%2]", "PENDING", 0, "", "Resources")
            + line(123, 3, "RUNNING", 0, "n1", "None")
            + line(123, 2, "PENDING", 1, "", "BeginTime")
            + line(124, "N/A", "COMPLETING", 0, "n[1-2]", "None")
            + line(999, 0, "RUNNING", 0, "n3", "None")
            + line(123, 1, "COMPLETED", 0, "n1", "None")
        },
    )
    live = queue.live_tasks({123, 124})
    assert not live.problem
    assert live.indices(123) == {2, 3, 4, 5, 6, 7, 8, 9}
    by_index = {(task.job_id, task.index): task for task in live.tasks}
    assert by_index[123, 7] == queue.Task(123, 7, "pending", "Resources")
    assert by_index[123, 3] == queue.Task(123, 3, "running", nodes="n1")
    assert by_index[123, 2] == queue.Task(123, 2, "requeued", "BeginTime", restarts=1)
    assert by_index[124, None] == queue.Task(124, None, "completing", nodes="n[1-2]")
    assert len(by_index) == 9


def test_nobody_is_asked_about_no_jobs(slurm):
    assert queue.live_tasks(set()) == queue.Live()


def test_a_job_that_slurm_has_forgotten_is_not_alive(slurm):
    slurm.add("squeue", {"error": "slurm_load_jobs error: Invalid job id specified\n", "code": 1})
    assert queue.live_tasks({7}) == queue.Live()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "squeue is not on the PATH"),
        ({"error": "squeue: error: Unable to contact\n", "code": 1}, "Unable to contact"),
        ({"code": 3}, "exit code 3"),
        ({"sleep_s": 30}, "did not answer in 0.2 s"),
    ],
)
def test_no_answer_is_said_and_not_raised(slurm, monkeypatch, answer, words):
    monkeypatch.setattr(queue.ask, "__kwdefaults__", {**queue.ask.__kwdefaults__, "timeout_s": 0.2})
    if answer is not None and "sleep_s" not in answer:
        monkeypatch.setitem(queue.ask.__kwdefaults__, "timeout_s", 20.0)
    if answer is not None:
        for name in ("squeue", "scontrol"):
            slurm.add(name, answer)
    live = queue.live_tasks({7})
    assert words in live.problem
    assert not live.tasks
    assert queue.max_array_size() is None


def test_what_the_cluster_says_of_itself_is_read(slurm):
    slurm.add("scontrol", {"output": "MaxArraySize            = 1001\nMaxJobCount  = 10000\n"})
    assert queue.max_array_size() == 1001


def test_the_users_own_settings_of_squeue_change_nothing(slurm, monkeypatch):
    monkeypatch.setenv("SQUEUE_FORMAT", "%all")
    program = slurm.bin / "squeue"
    program.write_text('#!/bin/sh\n[ -z "$SQUEUE_FORMAT" ] || exit 9\n')
    program.chmod(0o755)
    assert queue.live_tasks({1}) == queue.Live()


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("3", [3]),
        ("[4-9%2]", [4, 5, 6, 7, 8, 9]),
        ("[1,3-7:2]", [1, 3, 5, 7]),
        ("", []),
        ("[1-2,...]", [1, 2]),
    ],
)
def test_index_expressions_are_expanded(text, numbers):
    assert list(queue.expand(text)) == numbers
