"""A cell of two nodes on a real Slurm: the result of one process, also when a node dies."""

from pathlib import Path

import pytest

from bench.records.row import Row
from tests.cluster_study import ClusterStudy, results, sweep_here
from tests.local_cluster import ON_A_CLUSTER, LocalCluster, wait_for

pytestmark = ON_A_CLUSTER

N_TEST, LENGTH = 97, 17  # no multiple of ranks, batches or both
ONE_CELL = f"""
title: a cell
base:
  architecture: gru
  task: {{name: parity, n_val: 33, n_test: {N_TEST}}}
  length: {LENGTH}
  width: 16
  training: {{steps: 300, batch_size: 6, val_every: 100}}
  resources: {{checkpoint_s: 0.5}}
grid: {{seed: [0]}}
"""
TWO_NODES = ONE_CELL.replace("resources: {", "resources: {nodes: 2, strategy: ddp, ")

SAME = 1e-4
"""Losses after 300 updates whose gradients are the same sums of float32 in another order."""


@pytest.fixture(scope="module")
def two_nodes(
    shared_cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory
) -> ClusterStudy:
    """A cell of two nodes that nothing disturbed."""
    study = ClusterStudy(shared_cluster, tmp_path_factory.mktemp("two") / "study", TWO_NODES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", shared_cluster.environment["SLURM_CONF"])
        study.submit()
        study.wait_for_end()
    return study


def row_of(study: ClusterStudy) -> Row:
    rows = list(study.store.rows())
    assert [row.status for row in rows] == ["ok"], study.logs()
    return rows[0]


def test_two_nodes_train_and_score_as_one_process_does(two_nodes, tmp_path):
    two = row_of(two_nodes)
    (one,) = sweep_here(tmp_path / "here", ONE_CELL).rows()
    assert (one.provenance["world_size"], two.provenance["world_size"]) == (1, 2)
    for curve in ("train_loss", "val_accuracy"):
        expected = [value for _, value in one.curves[curve]]
        assert [value for _, value in two.curves[curve]] == pytest.approx(expected, abs=SAME)
    assert two.metrics["test_score"] == one.metrics["test_score"]


def test_two_nodes_count_every_sample_once(two_nodes):
    """One that is counted twice would change what the share of right answers is a share of."""
    right = row_of(two_nodes).metrics["test_score"] * N_TEST * LENGTH
    assert right == pytest.approx(round(right), abs=1e-6)


@pytest.mark.parametrize("which", [0, 1])
def test_a_cell_of_two_nodes_survives_the_death_of_either(
    two_nodes: ClusterStudy, cluster: LocalCluster, tmp_path: Path, which: int
) -> None:
    study = ClusterStudy(cluster, tmp_path / "study", TWO_NODES)
    study.submit()
    kept = study.folder / "work" / "checkpoints"
    wait_for(lambda: list(kept.glob("*/*.ckpt")), "a checkpoint")
    (job,) = study.jobs()
    nodes = cluster.ask("scontrol", "show", "hostnames", cluster.job(f"{job}_0")["NodeList"])
    cluster.lose_node(nodes.split()[which])
    study.wait_for_end()
    assert row_of(study).provenance["requeues"] >= 1
    assert row_of(study).provenance["continued"] >= 1
    assert results(study.store) == results(two_nodes.store)
