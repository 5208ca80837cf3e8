"""mamba_ssm and causal_conv1d by fakes on the CPU: layouts, states, refusals, what is imported."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from architectures.kernels import causal_convolution as convolution
from architectures.kernels import selective_scan as selective
from architectures.kernels import ssd as duality
from architectures.kernels.cuda import selective_scan as cuda_selective
from architectures.kernels.native import library
from architectures.kernels.paths import CHUNKED, REFERENCE, recorded
from architectures.mamba import Mamba
from architectures.mamba2 import Mamba2
from tests import fake_packages
from tests.fake_packages import convolution_inputs, ssd_inputs
from tests.native_operations import BFLOAT16, SINGLE, error, normal, selective_inputs, single

OPERATIONS = pytest.mark.parametrize("operation", fake_packages.FUNCTIONS)
PACKAGES = {"selective_scan": "mamba_ssm", "ssd": "mamba_ssm"}


@pytest.fixture(autouse=True)
def _auto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQBENCH_KERNELS", "auto")


CALLS: dict[str, tuple[Any, Any]] = {
    "selective_scan": (selective.selective_scan, selective_inputs(35, 6, 5)),
    "ssd": (duality.selective_ssd, ssd_inputs()),
    "causal_convolution": (convolution.causal_convolution, convolution_inputs()),
}


def paths_of(operation: str) -> dict[str, str]:
    run, inputs = CALLS[operation]
    with recorded() as paths:
        run(*single(inputs))
    # The fakes compute by our plain form, which says so too.
    return {name: path.partition("+")[0] for name, path in paths.items()}


def plain(operation: str) -> dict[str, str]:
    """The path where no package runs, of tensors that are on a CPU in truth."""
    return {operation: CHUNKED if operation == "ssd" else REFERENCE}


@OPERATIONS
@pytest.mark.parametrize("with_state", [False, True])
def test_a_package_gives_what_the_reference_gives(
    operation: str, with_state: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_packages.install(operation, monkeypatch)
    run, inputs = CALLS[operation]
    inputs = inputs if with_state else inputs[:-1]
    assert error(run, run, inputs) < SINGLE  # float64 goes to the reference
    assert paths_of(operation) == {operation: PACKAGES.get(operation, "causal_conv1d")}
    assert not library.reasons()


@OPERATIONS
def test_a_package_with_wrong_numbers_is_switched_off(
    operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = fake_packages.negative(fake_packages.FUNCTIONS[operation][1])
    fake_packages.install(operation, monkeypatch, wrong)
    assert paths_of(operation) == plain(operation)
    assert "its self-check found an error of" in library.reasons()[f"{operation} on cpu"]


@OPERATIONS
def test_a_package_that_raises_is_switched_off(
    operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise AttributeError("'NoneType' object has no attribute 'fwd'")

    fake_packages.install(operation, monkeypatch, broken)
    run, inputs = CALLS[operation]
    assert error(run, run, inputs) < SINGLE
    reason = library.reasons()[f"{operation} on cpu"]
    assert reason.endswith("raised AttributeError: 'NoneType' object has no attribute 'fwd'")


@OPERATIONS
def test_a_package_that_is_not_there_is_a_reason(
    operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_packages.lone(operation, monkeypatch)
    monkeypatch.setitem(sys.modules, fake_packages.FUNCTIONS[operation][0], None)
    assert paths_of(operation) == plain(operation)
    assert "cannot be imported: ModuleNotFoundError" in library.reasons()[f"{operation} on cpu"]
    monkeypatch.setenv("SEQBENCH_KERNELS", "native")
    with pytest.raises(RuntimeError, match=f"but {operation} on cpu has none"):
        paths_of(operation)


@OPERATIONS
def test_reference_asks_for_no_package(operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_packages.install(operation, monkeypatch)
    monkeypatch.setenv("SEQBENCH_KERNELS", "reference")
    assert paths_of(operation) == plain(operation)
    assert f"{operation} on cpu" not in library.KERNELS


def test_a_wrong_gradient_alone_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def detached(u: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        y: Tensor = fake_packages.selective_scan_fn(u, *args, **kwargs)
        return y.detach() + 0.5 * (y - y.detach())

    fake_packages.install("selective_scan", monkeypatch, detached)
    assert paths_of("selective_scan") == plain("selective_scan")
    assert "error of 5.0e-01" in library.reasons()["selective_scan on cpu"]


def test_products_of_fewer_bits_wait_until_they_are_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def rounded(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        return fake_packages.mamba_chunk_scan_combined(x * (1 + 2.0**-10), *args, **kwargs)

    fake_packages.install("ssd", monkeypatch, rounded)
    assert paths_of("ssd") == plain("ssd")
    assert not library.reasons()
    with torch.autocast("cpu", torch.bfloat16):
        assert paths_of("ssd") == {"ssd": "mamba_ssm"}
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    assert paths_of("ssd") == {"ssd": "mamba_ssm"}


def test_a_setting_of_the_cpu_is_none_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch answers with an error where its backends' settings differ, as oneDNN's does here."""
    fake_packages.install("ssd", monkeypatch)
    backend: Any = torch.backends.mkldnn
    before = backend.matmul.fp32_precision
    backend.matmul.fp32_precision = "bf16"
    try:
        assert paths_of("ssd") == {"ssd": "mamba_ssm"}
    finally:
        backend.matmul.fp32_precision = before


def test_a_large_state_is_handed_to_mamba_ssm_without_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_packages.install("selective_scan", monkeypatch)
    inputs = selective_inputs(3, 6, 5)
    # The decay of 1000 in so short a time leaves of the state what can be compared.
    inputs[1], inputs[2], inputs[6] = 1e-5 * inputs[1], 1000 * inputs[2], 1e6 * inputs[6]
    assert error(selective.selective_scan, selective.selective_scan_reference, inputs) < SINGLE


def test_a_state_larger_than_mamba_ssm_has_goes_to_the_reference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_packages.install("selective_scan", monkeypatch)
    assert cuda_selective.MAX_STATE == 256
    with recorded() as paths:
        selective.selective_scan(*single(selective_inputs(2, 2, 257)))
    assert paths == plain("selective_scan")


@pytest.mark.parametrize(("taps", "width"), [(5, 16), (1, 16), (4, 12)])
def test_what_causal_conv1d_refuses_goes_to_the_reference(
    taps: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_packages.install("causal_convolution", monkeypatch)
    with recorded() as paths:
        convolution.causal_convolution(
            torch.ones(2, 5, width), torch.ones(width, taps), torch.ones(width)
        )
    assert paths == plain("causal_convolution")


@pytest.mark.parametrize("first", [0, 3, 8])
@pytest.mark.parametrize("length", [1, 9])
def test_a_slice_of_a_projection_is_convolved(
    length: int, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_packages.install("causal_convolution", monkeypatch)
    _, *others = single(convolution_inputs())
    x = normal(3, length, 35).float()[:, :, first : first + 16]
    y, _ = convolution.causal_convolution(x, *others)
    torch.testing.assert_close(y, convolution.causal_convolution_reference(x, *others))


def test_under_autocast_the_convolution_rounds_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_packages.install("causal_convolution", monkeypatch)
    x, weight, bias, state = single(convolution_inputs())
    given = x.bfloat16(), weight, bias, state.bfloat16()
    with recorded() as paths:
        y, _ = convolution.causal_convolution(*given)
    assert paths == {"causal_convolution": "causal_conv1d"}
    assert y.dtype == torch.float32
    exact = convolution.causal_convolution_reference(*(z.double() for z in given))
    assert library.relative_error([y], [exact]) < BFLOAT16


@pytest.mark.parametrize(
    ("body", "operation"), [(Mamba, "selective_scan"), (Mamba2, "ssd")], ids=["mamba", "mamba2"]
)
def test_a_body_by_packages_keeps_the_law_of_splits(
    body: Any, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model, x = body(16), normal(2, 11, 16).float()
    expected, _ = model(x)
    fake_packages.install(operation, monkeypatch)
    whole, _ = model(x)
    first, state = model(x[:, :4])
    second, _ = model(x[:, 4:], state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole, expected, rtol=1e-4, atol=1e-5)
    assert "mamba_ssm" in model.kernel


EVERY_BODY = """
import sys, torch
from architectures import ARCHITECTURES
torch.manual_seed(0)
for name, body in ARCHITECTURES.items():
    if name != "hf":  # transformers imports what it likes
        y, _ = body(16)(torch.randn(2, 5, 16))
        y.square().mean().backward()
found = {"triton", "mamba_ssm", "causal_conv1d"} & set(sys.modules)
assert not found, found
"""


def test_no_body_on_a_cpu_imports_a_package_for_gpus() -> None:
    subprocess.run([sys.executable, "-c", EVERY_BODY], check=True, timeout=120)
