"""The cluster for trying out: it serves jobs, survives a crash, and leaves no process behind."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local_cluster import ON_A_CLUSTER, LocalCluster, processes, wait_for

pytestmark = ON_A_CLUSTER

SAVED_S = 6.0  # the controller saves what it knows every five seconds

ORPHANING = "(setsid sleep 1000 & setsid nohup sleep 1001 >/dev/null & ) ; echo begun; sleep 1002"


@pytest.fixture
def own() -> Iterator[LocalCluster]:
    """A cluster of two nodes for this test alone; sockets want a path that is short."""
    with tempfile.TemporaryDirectory(prefix="c") as folder:
        cluster = LocalCluster(Path(folder) / "c")
        cluster.up("--nodes", "2", "--cpus", "2", "--memory", "1000", "--gpus", "2")
        yield cluster
        cluster.down()


def left_by(cluster: LocalCluster) -> list[int]:
    """Whatever has this cluster in its environment, whether the script would know it or not."""
    names = ("slurm.node.conf", "slurm.conf")
    return [pid for name in names for pid in processes(f"SLURM_CONF={cluster.folder}/{name}")]


def begun(cluster: LocalCluster, *options: str) -> str:
    """A job that has begun, and has children that left its session and its process group."""
    job = cluster.submit(ORPHANING, *options)
    wait_for(lambda: "begun" in cluster.log(job), "a job to begin")
    return job


def test_it_runs_jobs_on_the_nodes_it_was_asked_for(own):
    shape = own.ask("sinfo", "--noheader", "--Node", "--partition=main", "--format=%N %c %m %G")
    assert shape.split("\n")[:2] == ["n1 2 1000 gpu:2", "n2 2 1000 gpu:2"]
    said = own.ask("srun", "--nodes=2", "--gres=gpu:2", "sh", "-c", "echo $CUDA_VISIBLE_DEVICES")
    assert said == "0,1\n0,1\n"


def test_a_second_up_says_that_it_is_up_and_starts_nothing(own):
    before = sorted(left_by(own))
    said = own.up("--nodes", "3")
    assert said.splitlines() == ["is up", f"export SLURM_CONF={own.folder}/slurm.conf"]
    assert sorted(left_by(own)) == before
    assert own.call("status").returncode == 0


def test_down_leaves_no_process_of_jobs_either(own):
    begun(own)
    own.ask("sbatch", "--wrap=sleep 1000", "--export=NONE", f"--output={own.folder}/%j.log")
    assert "processes ended" in own.down()
    assert left_by(own) == []
    assert own.call("status").stdout == "is down\n"


def test_a_crashed_cluster_can_be_taken_down(own):
    begun(own)
    for name in ("slurmctld", "n1", "n2"):
        own.kill(name)
    for process in left_by(own):
        if b"slurmstepd" in Path(f"/proc/{process}/cmdline").read_bytes():
            os.kill(process, signal.SIGKILL)
    assert left_by(own), "a job outlives its cluster"
    status = own.call("status")
    assert (status.returncode, status.stdout.count("has died")) == (1, 3)
    own.down()
    assert left_by(own) == []


def test_a_crashed_cluster_can_be_brought_up_anew_without_its_orphans(own):
    begun(own)
    for name in ("slurmctld", "n1", "n2"):
        own.kill(name)
    orphans = set(left_by(own))
    own.up("--nodes", "2")
    assert not orphans & set(left_by(own))
    assert own.ask("squeue", "--noheader") == ""


@pytest.mark.parametrize("name", ["slurmctld", "n2"])
def test_up_starts_what_has_died_and_jobs_go_on(own, name):
    job = begun(own, "--nodelist=n1")
    time.sleep(SAVED_S)
    own.kill(name)
    assert own.up().splitlines()[0] == f"started again: {name}"
    assert own.state(job) == "RUNNING"
    assert own.call("status").returncode == 0


def test_two_clusters_do_not_know_of_each_other(own):
    other = LocalCluster(own.folder.with_name("c2"))  # begins with the name of the first
    other.up("--nodes", "1")
    before = sorted(left_by(own))
    other.down()
    assert (left_by(other), sorted(left_by(own))) == ([], before)


def test_down_spares_the_shell_that_uses_the_cluster(own):
    words = [sys.executable, "-c", "input()"]
    with subprocess.Popen(words, env=own.environment, stdin=subprocess.PIPE) as shell:
        own.down()
        assert shell.poll() is None
        shell.kill()


def test_a_stopped_process_is_ended_too(own):
    for process in left_by(own):
        os.kill(process, signal.SIGSTOP)
    own.down()
    assert left_by(own) == []


def test_a_job_of_the_urgent_partition_takes_the_place_of_another(own):
    job = begun(own, "--exclusive", "--nodes=2", "--requeue")
    own.ask("srun", "--partition=urgent", "--exclusive", "--nodes=2", "true")
    wait_for(lambda: own.job(job)["Restarts"] == "1", "the job to be requeued")
