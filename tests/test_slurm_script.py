"""The batch script: what it asks for, that bash reads it, and what it does as steps end."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.launch.entry import REQUEUE
from bench.launch.slurm.profile import Profile
from bench.launch.slurm.script import RERUN, Command, element_script, job_name, pack_script
from bench.launch.slurm.shapes import Shape
from tests.fake_slurm import FakeSlurm

COMMAND = Command(python=sys.executable)
HOSTILE = "a b'c\"d$(touch pwned)`touch pwned`\\;|&%A é -x"


def a_shape(**changes: object) -> Shape:
    base = {
        "nodes": 1,
        "devices": 1,
        "accelerator": "auto",
        "threads": 1,
        "memory_bytes": None,
        "purpose": "train",
    }
    return Shape(**{**base, **changes})


def directives(profile: dict[str, object], **shape: object) -> set[str]:
    text = element_script(Profile(**profile), a_shape(**shape), 5, "plan-0.jsonl", COMMAND)
    return {line.removeprefix("#SBATCH ") for line in text.splitlines() if line[:8] == "#SBATCH "}


def test_what_a_script_asks_for():
    profile = {"partition": "p", "account": "a", "qos": "q", "constraint": "x&y", "throttle": 3}
    found = directives({**profile, "time": "01:00:00", "memory": "4GiB", "gres": "nvme:1"})
    assert found == {
        *("--array=0-4%3", "--partition=p", "--account=a", "--qos=q", "--constraint=x&y"),
        *("--time=01:00:00", "--nodes=1", "--ntasks-per-node=1", "--cpus-per-task=1"),
        *("--mem=4096M", "--gres=nvme:1", "--signal=USR1@120", "--requeue", "--open-mode=append"),
    }


def test_a_shape_decides_what_each_node_gives():
    found = directives(
        {"gpus": "a100", "cpus": 4}, nodes=2, devices=8, threads=2, memory_bytes=2**30
    )
    assert {"--nodes=2", "--cpus-per-task=32", "--gres=gpu:a100:8", "--mem=16384M"} <= found
    assert "--gres=gpu:1" in directives({"gpus": "any"})
    assert not any("gres" in line for line in directives({"gpus": "any"}, accelerator="cpu"))


def test_cells_that_measure_have_their_node_alone():
    assert {"--exclusive", "--mem=0"} <= directives({}, purpose="measure")
    assert "--exclusive" not in directives({})


def test_a_flag_with_signs_is_quoted_for_sbatch():
    found = directives({"flags": ['--comment=a "b" \\c', "--exclude=n[1-3]"]})
    assert r'--comment="a \"b\" \\c"' in found
    assert "--exclude=n[1-3]" in found


def test_every_directive_stands_before_the_first_command():
    text = element_script(Profile(setup=("true",)), a_shape(), 2, "p", COMMAND).splitlines()
    first = next(i for i, line in enumerate(text) if line and not line.startswith("#"))
    assert not [line for line in text[first:] if line.startswith("#SBATCH")]


def test_names_of_studies_become_names_of_jobs():
    assert job_name("my study $(x)") == "seqbench-my-study-x"
    assert job_name("--é\n") == "seqbench"
    assert len(job_name("x" * 500)) < 64


@pytest.fixture
def job(tmp_path):
    """What runs a script as Slurm would, in a folder of its own with a plan."""
    return Job(tmp_path)


class Job:
    """A batch job without a cluster."""

    def __init__(self, folder: Path) -> None:
        self.slurm = FakeSlurm(folder / "slurm")
        self.slurm.add("scontrol", {})
        self.folder = folder / "submission"
        self.folder.mkdir()
        (self.folder / "plan-0.jsonl").touch()

    def start(self, profile: Profile, plan: str = "plan-0.jsonl", **shape: object):
        command = Command(python=str(self.slurm.bin / "python"))
        script = self.folder / "element.sbatch"
        script.write_text(element_script(profile, a_shape(**shape), 5, plan, command))
        subprocess.run(["bash", "-n", script], check=True)
        given = {
            "SLURM_ARRAY_TASK_ID": "3",
            "SLURM_ARRAY_JOB_ID": "15",
            "SLURM_JOB_ID": "15",
            "SLURM_CPUS_PER_TASK": "1",
        }
        path = f"{self.slurm.bin}:{os.environ['PATH']}"
        return subprocess.Popen(
            ["bash", str(script)],
            cwd=self.folder,
            env={**os.environ, **given, "PATH": path},
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *codes: int, settled: tuple[int, ...] = ()) -> int:
        """Run it with steps that end with these codes; the answer is its own."""
        self.slurm.add("srun", *({"code": code} for code in codes))
        self.slurm.add("python", *({"code": code} for code in settled))
        process = self.start(Profile())
        process.communicate(timeout=60)
        return process.returncode


def test_a_step_is_one_process_on_each_node(job):
    assert job.run(0) == 0
    ((*options, python, _, bench, work, plan, index),) = job.slurm.calls("srun")
    assert {"--nodes=1", "--ntasks=1", "--ntasks-per-node=1", "--cpus-per-task=1"} <= set(options)
    assert Path(python).name == "python"
    assert (bench, work, plan, index) == ("bench", "work", "plan-0.jsonl", "3")
    assert not job.slurm.calls("scontrol")


@pytest.mark.parametrize("code", [REQUEUE, 138, 143])
def test_a_step_that_goes_on_later_is_requeued_once_and_no_other_with_it(job, code):
    assert job.run(code) == REQUEUE
    assert job.slurm.calls("scontrol") == [["requeue", "15_3"]]
    assert len(job.slurm.calls("srun")) == 1


def test_a_requeue_is_tried_again_if_the_controller_is_away(job):
    job.slurm.add("scontrol", {"code": 1}, {"code": 0})
    assert job.run(REQUEUE) == REQUEUE
    assert len(job.slurm.calls("scontrol")) == 2


def test_a_step_that_died_is_settled_and_its_other_cells_go_on(job):
    assert job.run(137, 1, 0, settled=(RERUN, RERUN)) == 0
    assert [words[-2:] for words in job.slurm.calls("python")] == [
        ["--settle", "137"],
        ["--settle", "1"],
    ]
    assert len(job.slurm.calls("srun")) == 3


@pytest.mark.parametrize(("settled", "code"), [(0, 0), (9, 1), (REQUEUE, REQUEUE)])
def test_what_settling_says_is_done(job, settled, code):
    assert job.run(1, settled=(settled,)) == code
    assert len(job.slurm.calls("scontrol")) == (settled == REQUEUE)


@pytest.mark.parametrize("code", [REQUEUE, 137])
@pytest.mark.parametrize("reason", ["None", "Preempted", "TimeLimit"])
def test_a_job_that_slurm_takes_away_is_requeued_by_us_at_its_time_limit_alone(job, reason, code):
    job.slurm.add("srun", {"code": code, "sleep_s": 1})
    job.slurm.add("scontrol", {"output": f"   JobState=COMPLETING Reason={reason} Dependency=\n"})
    process = job.start(Profile())
    deadline = time.monotonic() + 30
    while not job.slurm.calls("srun") and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == REQUEUE
    requeued = ["requeue", "15_3"] in job.slurm.calls("scontrol")
    assert requeued == (reason == "TimeLimit")


def test_a_node_that_does_not_see_the_folder_says_so(job):
    (job.folder / "plan-0.jsonl").unlink()
    process = job.start(Profile())
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "does not see" in said
    assert str(job.folder) in said


def test_the_environment_arrives_as_it_is_written(job):
    job.slurm.add("srun")
    program = job.slurm.bin / "python"
    program.write_text('#!/bin/sh\nprintf "%s|%s" "$HOSTILE" "$HOME" > said\n')
    program.chmod(0o755)
    process = job.start(Profile(environment={"HOSTILE": HOSTILE}, setup=("HOME=/changed",)))
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert (job.folder / "said").read_text() == f"{HOSTILE}|/changed"
    assert not (job.folder / "pwned").exists()


@pytest.mark.parametrize("name", [HOSTILE, "-x", "line\nbreak"])
def test_hostile_names_of_folders_are_only_names(tmp_path, name):
    folder = tmp_path / name
    (folder / "bin").mkdir(parents=True)
    program = folder / "bin" / "python"
    program.write_text('#!/bin/sh\nprintf "%s" "$4" > said\nprintf "%s" "$PYTHONPATH" > path\n')
    program.chmod(0o755)
    command = Command(python=str(program), checkout=folder)
    script = pack_script(Profile(), folder, command)
    subprocess.run(["bash", "-c", script], check=True, cwd=tmp_path, timeout=60)
    assert (tmp_path / "said").read_text() == str(folder)
    assert (tmp_path / "path").read_text().split(":/")[0] == str(folder)
    assert not list(tmp_path.rglob("pwned"))


def test_modules_and_a_container_stand_before_the_command(job):
    text = element_script(
        Profile(modules=("cuda/12.4",), container=("apptainer", "exec", "a b.sif")),
        a_shape(),
        1,
        "p",
        COMMAND,
    )
    assert "module load cuda/12.4 || exit" in text
    assert f"bench=(apptainer exec 'a b.sif' {shlex.quote(sys.executable)} -m bench)" in text
