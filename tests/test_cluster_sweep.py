"""Sixty cells on a real Slurm of four nodes: whatever happens, the rows are those of no trouble."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cluster_study import SIXTY_CELLS, ClusterStudy, restarts, results, sweep_here
from tests.local_cluster import ON_A_CLUSTER, PATIENCE_S, LocalCluster, wait_for

pytestmark = ON_A_CLUSTER


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the cells come to on this machine."""
    return results(sweep_here(tmp_path_factory.mktemp("here") / "study", SIXTY_CELLS))


@pytest.fixture
def study(cluster: LocalCluster, tmp_path: Path) -> ClusterStudy:
    """The study before anything was submitted, in a folder that is hard to quote."""
    return ClusterStudy(cluster, tmp_path / "it's 100% $(touch gone)", SIXTY_CELLS)


def check(study: ClusterStudy, undisturbed: dict[str, Any]) -> None:
    """Every cell has one row, and it says what that of the quiet sweep says."""
    study.wait_for_end()
    found = results(study.store)
    assert found.keys() == study.run_ids, study.logs()
    assert found == undisturbed


def test_the_submitting_shell_is_killed_and_the_study_submitted_again(study, undisturbed):
    with subprocess.Popen(
        ["bash", "-c", '"$@"; sleep 1000', "bash", *study.command()], start_new_session=True
    ) as shell:
        wait_for(lambda: study.jobs(), "a submitted array")
        os.killpg(shell.pid, signal.SIGKILL)
    (job,) = study.jobs()  # all of one shape
    again = study.submit()
    assert study.jobs() == [job], again
    check(study, undisturbed)
    nodes = {study.cluster.job(f"{job}_{index}")["NodeList"] for index in range(4)}
    assert nodes == {"n1", "n2", "n3", "n4"}
    assert restarts(study.store) == 0
    assert "0 cells to submit" in study.submit()


def test_a_node_dies_and_another_loses_its_slurmd_alone(study, undisturbed):
    """Slurm starts the cells of both elsewhere, while the second node still works on its own."""
    study.submit()
    study.wait_for_rows(4)
    study.cluster.lose_node("n1")
    study.cluster.kill("n2")
    check(study, undisturbed)
    assert restarts(study.store) == 1
    assert study.store.packed_file.exists(), "the last job packs the rows"
    assert not list(study.store.live_folder.iterdir())


def test_half_of_the_elements_are_requeued(study, undisturbed):
    study.submit()
    study.wait_for_rows(4)
    (job,) = study.jobs()
    elements = study.elements(job, "--states=RUNNING")
    study.cluster.ask("scontrol", "requeue", ",".join(elements[: len(elements) // 2]))
    check(study, undisturbed)
    assert restarts(study.store) == 1


def test_jobs_of_a_higher_partition_take_the_nodes(study, undisturbed):
    study.submit()
    study.wait_for_rows(4)
    study.cluster.ask("srun", "--partition=urgent", "--exclusive", "--nodes=4", "sleep", "1")
    check(study, undisturbed)
    assert restarts(study.store) == 1


def test_the_controller_is_killed_and_comes_back(study, undisturbed):
    study.submit()
    study.wait_for_rows(4)
    study.cluster.kill("slurmctld")
    written = study.rows_written()
    wait_for(lambda: study.rows_written() > written, "a row while nobody controls")
    study.cluster.up()
    check(study, undisturbed)


def test_the_study_is_submitted_twice(study, undisturbed):
    """Two at the same time make one array; one that cannot know of it makes another beside it."""
    both = [subprocess.Popen(study.command(), stdout=subprocess.PIPE) for _ in range(2)]
    for process in both:
        process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0
    (first,) = study.jobs()
    study.forget_jobs()
    study.submit()
    (second,) = study.jobs()
    assert second != first
    check(study, undisturbed)
