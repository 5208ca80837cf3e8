"""What a real Slurm refuses is said before anything is submitted; what is cancelled stays away."""

import subprocess
from pathlib import Path

import pytest

from tests.cluster_study import ClusterStudy
from tests.local_cluster import ON_A_CLUSTER, PATIENCE_S, LocalCluster, wait_for

pytestmark = ON_A_CLUSTER

ENDLESS = """
title: a cell that never ends
base:
  architecture: gru
  task: parity
  length: 16
  width: 16
  training: {steps: 100000000, val_every: 100000000}
grid: {seed: [0]}
"""


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ({"partition": "nowhere"}, "invalid partition"),
        ({"memory": "1T"}, "node configuration is not available"),
        ({"flags": ["--reservation=mine"]}, "reservation"),
    ],
)
def test_what_slurm_refuses_is_said_in_its_words(
    cluster: LocalCluster, tmp_path: Path, profile: dict[str, object], words: str
) -> None:
    study = ClusterStudy(cluster, tmp_path / "study", ENDLESS, **profile)
    done = subprocess.run(study.command(), capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 2, done.stdout
    assert words.lower() in done.stderr.lower()
    assert len(done.stderr.splitlines()) == 1
    assert study.jobs() == []
    assert cluster.ask("squeue", "--noheader") == ""


def test_a_cell_that_is_cancelled_does_not_come_back(cluster: LocalCluster, tmp_path: Path) -> None:
    study = ClusterStudy(cluster, tmp_path / "study", ENDLESS)
    study.submit()
    wait_for(lambda: list((study.folder / "work").glob("*.log")), "the cell to begin")
    (job,) = study.jobs()
    cluster.ask("scancel", str(job))
    study.wait_for_end()
    end = cluster.job(f"{job}_0")
    assert (end["JobState"], end["Restarts"]) == ("CANCELLED", "0")
    assert study.store.ids() == set()


def test_cells_that_the_study_drops_while_they_wait_are_not_run(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    study = ClusterStudy(cluster, tmp_path / "study", ENDLESS, flags=["--hold"])
    study.submit()
    (study.folder / "study.yaml").write_text(ENDLESS.replace("gru", "rnn"))
    (job,) = study.jobs()
    cluster.ask("scontrol", "release", str(job))
    wait_for(lambda: not study.elements(job), "the element to end")
    assert "the study was changed" in study.logs()
    assert study.store.ids() == set()
