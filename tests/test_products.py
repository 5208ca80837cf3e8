"""Matrix products go to oneDNN only where that is as exact and not slower, and rows say so."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.errors import UserError
from bench.measure import memory, session
from bench.training import products
from bench.training.products import Trial, decided, settle
from tests.small_run import a_run, row_of

GOOD = Trial(ran=True, error_ratio=1.02, time_ratio=0.7)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def switched(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """A process that has settled nothing, an empty cache, and what was switched."""
    calls: list[bool] = []
    monkeypatch.setattr(products, "_settled", None)
    monkeypatch.setattr(products, "take_onednn", calls.append)
    monkeypatch.setenv("SEQBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SEQBENCH_PRODUCTS", raising=False)
    yield calls
    products._settled = None


def tried(trial: Trial) -> Callable[[], Trial]:
    return lambda: trial


def by(monkeypatch: pytest.MonkeyPatch, trial: Trial, asked: str = "auto") -> dict[str, Any]:
    monkeypatch.setattr(products, "try_onednn", tried(trial))
    products.memory_file().unlink(missing_ok=True)
    return decided(asked)


def test_what_is_exact_and_fast_is_taken(
    monkeypatch: pytest.MonkeyPatch, switched: list[bool]
) -> None:
    monkeypatch.setattr(products, "try_onednn", tried(GOOD))
    expected = {
        "library": "onednn",
        "asked": "auto",
        "error_ratio": 1.02,
        "time_ratio": 0.7,
    }
    assert settle(CPU) == expected
    assert settle(CPU) == expected
    assert switched == [True]


@pytest.mark.parametrize(
    ("trial", "reason"),
    [
        (Trial(True, 1.6, 0.5), "its error is 1.6 times"),
        (Trial(True, float("nan"), 0.5), "its error is nan times"),
        (Trial(True, 1.0, 1.2), "it takes 1.20 times as long"),
        (Trial(False, 1.0, 1.0), "does not take float32 products"),
    ],
)
def test_what_is_inexact_or_slow_or_does_not_run_is_refused(
    trial: Trial, reason: str, monkeypatch: pytest.MonkeyPatch, switched: list[bool]
) -> None:
    said = by(monkeypatch, trial)
    assert said["library"] == products.default_library()
    assert reason in said["reason"]
    json.dumps(said, allow_nan=False)
    assert settle(CPU) == said
    assert switched == []


def test_who_asks_for_it_gets_it_slow_but_never_inexact(monkeypatch: pytest.MonkeyPatch) -> None:
    assert by(monkeypatch, Trial(True, 1.0, 1.2), "onednn")["library"] == "onednn"
    for trial in (Trial(True, 200.0, 0.5), Trial(False, 1.0, 1.0)):
        with pytest.raises(UserError, match=r"SEQBENCH_PRODUCTS=onednn, but .*choices: auto, mkl"):
            by(monkeypatch, trial, "onednn")


def test_the_default_is_taken_untried_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(products, "try_onednn", lambda: pytest.fail("tried"))
    assert decided("mkl") == {"library": products.default_library(), "asked": "mkl"}


def test_a_wrong_choice_names_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQBENCH_PRODUCTS", "onednm")
    message = "no SEQBENCH_PRODUCTS 'onednm'; did you mean 'onednn'"
    with pytest.raises(UserError, match=message):
        settle(CPU)
    row = row_of(a_run())
    assert row.status == "failed"
    assert message in row.reason


def test_an_accelerator_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, switched: list[bool]
) -> None:
    monkeypatch.setattr(products, "try_onednn", lambda: pytest.fail("tried"))
    assert settle(torch.device("cuda")) is None
    assert switched == []


def test_the_first_trial_on_a_machine_decides_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    assert by(monkeypatch, GOOD)["library"] == "onednn"
    monkeypatch.setattr(products, "try_onednn", tried(Trial(True, 1.0, 1.01)))
    assert decided("auto")["time_ratio"] == 0.7
    products.memory_file().write_text("{")  # a process that died while it wrote
    assert decided("auto")["time_ratio"] == 1.01
    assert decided("auto")["time_ratio"] == 1.01
    assert len(list(products.memory_file().parent.iterdir())) == 1


def test_of_two_that_try_at_once_the_first_to_write_decides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def beaten() -> Trial:
        path = products.memory_file()
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"ran": True, "error_ratio": 1.0, "time_ratio": 2.0}))
        return GOOD

    monkeypatch.setattr(products, "try_onednn", beaten)
    monkeypatch.setattr(products.Path, "exists", lambda _: False)  # as it was a moment before
    assert products.remembered() == Trial(True, 1.0, 2.0)


def test_without_a_folder_a_trial_holds_for_its_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SEQBENCH_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(products, "try_onednn", tried(GOOD))
    assert decided("auto")["library"] == "onednn"


def rounded(dtype: torch.dtype) -> Callable[..., list[Tensor]]:
    """Products of operands that were rounded to another dtype first."""
    return lambda *operands: products._products(*(x.to(dtype).float() for x in operands))


def test_products_by_way_of_bfloat16_are_found_inexact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_by_onednn", rounded(torch.bfloat16))
    trial = products.try_onednn()
    assert trial.ran
    assert trial.error_ratio > 1_000
    assert "its error is" in trial.inexact()


def test_tf32_is_found_inexact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_by_onednn", rounded(torch.float16))  # as many digits
    assert products.try_onednn().error_ratio > 100


def test_one_inexact_product_of_three_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(3):

        def wrong(*operands: Tensor, index: int = index) -> list[Tensor]:
            found = products._products(*operands)
            found[index] = found[index].bfloat16().float()
            return found

        monkeypatch.setattr(products, "_by_onednn", wrong)
        assert products.try_onednn().inexact()


def test_another_order_of_the_same_sums_is_exact_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    def in_halves(left: Tensor, right: Tensor, gradient: Tensor) -> list[Tensor]:
        def product(a: Tensor, b: Tensor) -> Tensor:
            half = a.shape[-1] // 2
            return a[..., :half] @ b[..., :half, :] + a[..., half:] @ b[..., half:, :]

        return [product(left, right), product(gradient, right.mT), product(left.mT, gradient)]

    monkeypatch.setattr(products, "_by_onednn", in_halves)
    trial = products.try_onednn()
    assert trial.ran
    assert not trial.inexact()
    assert trial == Trial(True, products.try_onednn().error_ratio, trial.time_ratio)


def test_the_trial_leaves_torch_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    backend: Any = torch.backends.mkldnn
    threads, randomness = torch.get_num_threads(), torch.get_rng_state()
    cuda = torch.backends.cuda.matmul.fp32_precision
    products.try_onednn()
    assert backend.matmul.fp32_precision == "none"
    assert torch.backends.cuda.matmul.fp32_precision == cuda
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), randomness)


def test_the_setting_is_onednns_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    before = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.allow_tf32
    assert products.float32_matmul_precision() == "highest"
    products.take_onednn(True)
    try:
        assert products.float32_matmul_precision() == "mkldnn bf16"
        assert torch.backends.cuda.matmul.fp32_precision == before[0]
        assert torch.backends.cudnn.allow_tf32 == before[1]
    finally:
        products.take_onednn(False)
    assert products.float32_matmul_precision() == "highest"


def test_rows_say_which_library_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "try_onednn", tried(Trial(True, 1.7, 0.5)))
    measured = a_run(
        training={"steps": 0},
        measure={"instruments": ["throughput"], "seconds_per_cell": 0.01, "min_rounds": 3},
    )
    for row in (row_of(a_run()), *session.measure([measured], "test", {}, {})):
        assert row.status == "ok", row.log_tail
        assert row.provenance["products"]["error_ratio"] == 1.7
        assert "its error is 1.7" in row.provenance["products"]["reason"]


def test_memory_is_measured_with_the_same_products(
    monkeypatch: pytest.MonkeyPatch, switched: list[bool]
) -> None:
    monkeypatch.setattr(products, "try_onednn", tried(GOOD))
    monkeypatch.setenv("CC", "nocc")  # without a counter it is measured in this process
    monkeypatch.setattr(memory, "footprint", lambda *_: {"peak_bytes": 7})
    assert (
        memory.measure(a_run(training={"steps": 0}, measure={"instruments": ["memory"]}))[
            "peak_bytes"
        ]
        == 7
    )
    assert switched == [True]
