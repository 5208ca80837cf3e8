"""A cell that needs more time than a job may have, on a real Slurm: it goes on in the next job."""

import os
from pathlib import Path

import pytest

from bench.records.store import Store
from tests.cluster_study import ClusterStudy, results, start_here
from tests.local_cluster import ON_A_CLUSTER, PATIENCE_S, LocalCluster, wait_for
from tests.packages import install

pytestmark = ON_A_CLUSTER

SLOW = '''
"""A network that takes its time, however fast the machine is or busy with other things."""

import time

from architectures.gru import Gru


class Slow(Gru):
    """The same, later."""

    def forward(self, x, state=None, *, lengths=None):
        time.sleep(0.04)
        return super().forward(x, state, lengths=lengths)
'''
LONG = """
title: a cell of a minute or more
base:
  architecture: slow
  task: {name: parity, n_val: 32, n_test: 33}
  length: 16
  width: 16
  training: {steps: 1500, batch_size: 32, val_every: 500}
grid: {seed: [0]}
"""
LIMIT = {"time": "00:01:00", "warning_s": 5}
"""Slurm looks at limits every half a minute: the warning comes 25 to 55 s after the start."""


@pytest.fixture(autouse=True)
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that start from now on, jobs too, know that network."""
    names = {"seqbench.architectures": {"slow": "slow_network:Slow"}}
    install(tmp_path / "site", "slow-network", {"slow_network.py": SLOW}, names)
    paths = [str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


def test_a_time_limit_that_is_too_short(cluster: LocalCluster, tmp_path: Path) -> None:
    study = ClusterStudy(cluster, tmp_path / "study", LONG, **LIMIT)
    study.submit()
    with start_here(tmp_path / "here", LONG) as undisturbed:  # the machine has two cores
        study.wait_for_end()
        undisturbed.communicate(timeout=PATIENCE_S)
    (row,) = study.store.rows()
    assert row.status == "ok", study.logs()
    assert row.provenance["requeues"] >= 1
    assert row.provenance["continued"] >= 1
    assert results(study.store) == results(Store(tmp_path / "here"))


def test_a_cell_that_is_requeued_too_often_says_so(cluster: LocalCluster, tmp_path: Path) -> None:
    study = ClusterStudy(cluster, tmp_path / "study", LONG, max_requeues=1)
    study.submit()
    (job,) = study.jobs()
    for restarts in ("0", "1"):
        wait_for(lambda n=restarts: study.is_at(f"{job}_0", n), "the cell to begin")
        cluster.ask("scontrol", "requeue", f"{job}_0")
    study.wait_for_end()
    (row,) = study.store.rows()
    assert row.status == "preempted"
    assert "given up after 1 requeues" in row.reason
