"""The registry, options, kernels, operations and errors of the architectures."""

import copy
import inspect
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

import architectures
from architectures import ARCHITECTURES
from architectures.body import Body, state_tensors
from architectures.kernels.delta_rule import solve_flops_per_token
from architectures.kernels.fft_convolution import fft_convolution_flops_per_token
from architectures.kernels.linear_scan import linear_scan_flops_per_token
from architectures.kernels.selective_scan import selective_scan_flops_per_token
from tests.agreement import build, normal

FLOAT32_DRAWN = 1e-6  # initial values are drawn in float32
AUTOCAST_TOLERANCE = 0.05  # bfloat16 has 8 bits, relative to the largest output
NOT_ARCHITECTURES = {"__init__", "body"}
# Operations of one layer's scan at D = 16, which torch's counter does not see.
SCANNED = {
    "mingru": linear_scan_flops_per_token(16),
    "minlstm": linear_scan_flops_per_token(16),
    "lru": linear_scan_flops_per_token(64, is_complex=True),
    "s5": linear_scan_flops_per_token(32, is_complex=True),
    "mamba2": 2.0 * (4 * (32 + 2 * 64) + 32),
    "linear_attention": 2.0 * 4 * 3 * 16,
    "gated_deltanet": 2.0 * 4 * 64 + 4 * solve_flops_per_token(12, 4, 8),
    "rwkv4": 15.0 * 16,
    "rwkv7": 4 * solve_flops_per_token(12, 4, 4),
    "xlstm": 2.0 * 4 * 32,
}
CAUSAL = [name for name in ARCHITECTURES if ARCHITECTURES[name].causal]
# What they do is what the bodies inside do.
WRAPPERS = ("bidirectional", "hybrid", "hf", "encoder_decoder")


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=FLOAT32_DRAWN, atol=FLOAT32_DRAWN)


def test_every_architecture_file_is_in_the_registry() -> None:
    folder = Path(architectures.__file__).parent
    files = {path.stem for path in folder.glob("*.py")} - NOT_ARCHITECTURES
    assert set(ARCHITECTURES) == files
    assert all(cls.__module__ == f"architectures.{name}" for name, cls in ARCHITECTURES.items())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_options_are_typed_keywords_with_defaults(name: str) -> None:
    architecture = ARCHITECTURES[name]
    parameters = list(inspect.signature(architecture).parameters.values())
    assert parameters[0].name == "width"
    hints = get_type_hints(architecture.__init__)
    for parameter in parameters[1:]:
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert parameter.default is not inspect.Parameter.empty
        hint = hints[parameter.name]
        if get_origin(hint) is Literal:
            assert parameter.default in get_args(hint)
    assert architecture.__doc__
    assert architecture.__doc__.splitlines()[0].endswith(".")


def test_identity_initialisation_is_identity() -> None:
    body = build("rnn_stack", 6, init="identity", nonlinearity="relu")
    for name, parameter in body.recurrence.named_parameters():
        if name.startswith("weight_hh"):
            assert torch.equal(parameter, torch.eye(6, dtype=torch.float64))
        elif name.startswith("bias"):
            assert not parameter.any()
        else:
            assert parameter.std().item() == pytest.approx(1e-3, rel=0.3)
    # With no input the state stays what it was.
    state = normal(3, 2, 6).abs()
    _, after = body(torch.zeros(3, 1, 6, dtype=torch.float64), state)
    assert torch.equal(after[:, 0], state[:, 0])


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_orthogonal_initialisation_is_orthogonal_in_every_gate(name: str) -> None:
    body = build(name, 6, init="orthogonal", layers=1)
    weight = body.blocks[0].mixer.recurrence.weight_hh_l0
    for gate in weight.split(6):
        close(gate @ gate.t(), torch.eye(6, dtype=torch.float64))


@pytest.mark.parametrize("name", ["lstm", "lstm_stack", "bilstm_stack"])
def test_the_forget_bias_is_the_option(name: str) -> None:
    body = build(name, 6, forget_bias=2.5)
    recurrences = [module for module in body.modules() if isinstance(module, nn.LSTM)]
    assert recurrences
    for recurrence in recurrences:
        weights = dict(recurrence.named_parameters())
        hidden = recurrence.hidden_size
        for key in [key for key in weights if key.startswith("bias_ih")]:
            effective = weights[key] + weights[key.replace("ih", "hh")]
            assert torch.equal(effective[hidden : 2 * hidden], torch.full((hidden,), 2.5).double())
            assert not (effective[:hidden] == 2.5).any()


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru", "gru_stack", "lstm_stack", "bilstm_stack"])
def test_a_learned_initial_state_gets_a_gradient(name: str) -> None:
    body = build(name, 6, learn_initial_state=True)
    y, _ = body(normal(3, 5, 6))
    (y * normal(3, 5, 6, seed=1)).sum().backward()
    learned = [p for key, p in body.named_parameters() if "initial_state" in key]
    assert learned
    assert all(p.grad is not None and p.grad.abs().min() > 0 for p in learned)


def test_relu_and_tanh_are_what_they_say() -> None:
    assert build("rnn_stack", 6, nonlinearity="relu")(normal(3, 5, 6))[0].min() == 0.0
    assert build("rnn_stack", 6)(100 * normal(3, 5, 6))[0].abs().max() <= 1.0


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name not in WRAPPERS])
def test_dropout_acts_in_training_alone(name: str) -> None:
    body, x = build(name, dropout=0.5), normal(2, 9, 16)
    assert not torch.equal(body(x)[0], body(x)[0])
    body.eval()
    assert torch.equal(body(x)[0], body(x)[0])


def test_dropout_acts_on_every_branch_of_the_backbone() -> None:
    body = build("gru", layers=2, dropout=0.5)
    calls: list[nn.Module] = []
    for module in body.modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(lambda module, *_: calls.append(module))
    body(normal(2, 9, 16))
    assert len(calls) == 4  # mixer and MLP of two blocks


def observed_operations(body: Body, dtype: torch.dtype) -> set[str]:
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        body(torch.randn(2, 9, body.width, dtype=dtype, requires_grad=True))
    return {event.key for event in profiler.key_averages()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["rnn", "lstm", "gru_stack", "lstm_stack", "bilstm_stack"])
def test_the_recurrent_kernel_named_is_the_kernel_that_runs(
    name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = build(name).to(dtype)
    for enabled in (True, False):
        monkeypatch.setattr(torch.backends.mkldnn, "enabled", enabled)
        observed = observed_operations(body, dtype)
        took_onednn = "aten::mkldnn_rnn_layer" in observed
        took_native = bool(observed & {"seqbench::gru", "seqbench::rnn"})
        assert body.kernel == ("onednn" if took_onednn else "native-cpu" if took_native else "aten")


@pytest.mark.parametrize("has_bfloat16", [None, False])
def test_the_lstms_kernel_in_bfloat16_is_one_that_the_processor_has(
    has_bfloat16: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """oneDNN's needs AVX-512, which autocast does not ask about."""
    if has_bfloat16 is not None:
        monkeypatch.setattr("architectures.layers.recurrent.onednn_takes", lambda _: has_bfloat16)
    body = build("lstm_stack").float()
    with torch.autocast("cpu", torch.bfloat16):
        took_onednn = "aten::mkldnn_rnn_layer" in observed_operations(body, torch.float32)
        assert body.kernel == ("onednn" if took_onednn else "aten")
        assert has_bfloat16 is None or took_onednn == has_bfloat16
    assert torch.backends.mkldnn.enabled


def test_the_attention_kernel_named_is_the_kernel_that_runs() -> None:
    body = build("transformer")
    flash, math_alone = SDPBackend.FLASH_ATTENTION, SDPBackend.MATH
    for backend, name, operation in [
        (flash, "sdpa-flash", "aten::_scaled_dot_product_flash_attention_for_cpu"),
        (math_alone, "sdpa-math", "aten::_scaled_dot_product_attention_math"),
    ]:
        with sdpa_kernel(backend):
            assert body.kernel == name
            assert operation in observed_operations(body, torch.float64)


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "hybrid"])
def test_flops_are_those_that_torch_counts(name: str) -> None:
    body, n_rows, length = build(name), 2, 12
    x = normal(n_rows, length, 16)
    # float64 and the math backend: torch's counter sees neither oneDNN nor flash on a CPU.
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:
        body(x)
    counted = counter.get_total_flops() / (n_rows * length)
    stated = body.flops_per_token(length)
    if name == "mamba":
        # Of scan and convolution the counter sees the product with C, a part of the scan.
        scan = 2 * selective_scan_flops_per_token(32, 16)
        convolution = 2 * 2 * 4 * 32
        assert stated - scan - convolution == counted - 2 * 2 * 32 * 16
    elif name in SCANNED:
        assert stated - 2 * SCANNED[name] == pytest.approx(counted, rel=1e-12)
    elif name == "s4":
        # What one row more takes: kernel and powers are made once for the whole batch.
        with FlopCounterMode(display=False) as more:
            body(normal(n_rows + 1, length, 16))
        per_row = more.get_total_flops() - counter.get_total_flops()
        transforms = 2 * 16 * fft_convolution_flops_per_token(length)
        assert stated - transforms == pytest.approx(per_row / length)
    elif name == "s4d":
        transforms = 2 * 16 * fft_convolution_flops_per_token(length)
        # The counter sees the kernel's product, which is not per token of a batch.
        kernel = 2 * (2 * 16 * 64 * 12) / (n_rows * length)
        assert stated - transforms == pytest.approx(counted - kernel)
    else:
        assert stated == counted


def test_parameter_counts_are_the_published_ones() -> None:
    def count(name: str, **options: Any) -> int:
        return sum(parameter.numel() for parameter in build(name, 128, **options).parameters())

    # torch's LSTM: 4 (D^2 + D^2 + 2 D) a layer.
    assert count("lstm_stack", layers=2) == 2 * 4 * (2 * 128**2 + 2 * 128)
    # Mamba, section 3.4: 3 expand D^2 a block dominate. Then x_proj, dt_proj, A, D, conv, norms.
    rest = 256 * (8 + 32) + 8 * 256 + 256 + 256 * 16 + 256 + 256 * 5 + 2 * 2 * 128
    assert count("mamba", layers=1) == 3 * 2 * 128**2 + rest
    # Transformer: 12 D^2 a layer (Kaplan et al. 2020, table 1) and biases and norms.
    assert count("transformer", layers=1) == 12 * 128**2 + (4 + 1) * 128 + 3 * 2 * 128


def test_parameter_groups_are_as_the_papers_ask() -> None:
    (first, second) = build("s4d").param_groups()
    assert (first.weight_decay, first.max_learning_rate) == (0.0, 1e-3)
    assert len(first.parameters) == len(second.parameters) == 3
    mamba = build("mamba", layers=1)
    (group,) = mamba.param_groups()
    assert group.weight_decay == 0.0
    assert {id(p) for p in group.parameters} == {
        id(mamba.blocks[0].mixer.A_log),
        id(mamba.blocks[0].mixer.D),
    }
    assert build("gru").param_groups() == []
    assert len(build("bidirectional", inner="s4d", options={"layers": 1}).param_groups()) == 2


def test_mambas_initial_dt_lies_in_the_papers_range() -> None:
    mixer = build("mamba", layers=1).blocks[0].mixer
    dt = nn.functional.softplus(mixer.dt_proj.bias)
    assert 0.999e-3 < dt.min() < dt.max() < 1.001e-1
    close(mixer.A_log.exp()[3], torch.arange(1.0, 17).double())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_one_token_and_one_row_are_enough(name: str) -> None:
    body = build(name)
    x = normal(1, 1, 16)
    y, state = body(x)
    close(body.step(x[:, 0])[0], y[:, 0])
    assert y.shape == x.shape
    assert all(tensor.shape[0] == 1 for tensor in state_tensors(state))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_everything_follows_the_dtype(name: str) -> None:
    body = build(name)
    y, state = body(normal(2, 5, 16))
    tensors = [y, *body.parameters(), *body.buffers(), *state_tensors(state)]
    assert {tensor.dtype for tensor in tensors if tensor.is_floating_point()} == {torch.float64}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_nothing_beyond_the_lengths_matters_not_even_nan(name: str) -> None:
    body, x, lengths = build(name), normal(3, 9, 16), torch.tensor([9, 4, 1])
    padding = torch.arange(9) >= lengths.unsqueeze(1)
    expected, expected_state = body(x, lengths=lengths)
    y, state = body(x.masked_fill(padding.unsqueeze(2), torch.nan), lengths=lengths)
    close(y[~padding], expected[~padding])
    y[~padding].square().sum().backward()
    gradients = [p.grad for p in body.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)
    for actual, wanted in zip(state_tensors(state), state_tensors(expected_state), strict=True):
        close(actual, wanted)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_nan_in_the_input_shows_in_the_output(name: str) -> None:
    x = normal(2, 5, 16)
    x[0, 2] = torch.nan
    y, _ = build(name)(x)
    assert y[0, 2].isnan().all()
    assert not y[1].isnan().any()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_autocast_to_bfloat16_stays_near(name: str) -> None:
    body = build(name).float()
    x = normal(2, 9, 16).float()
    y, state = body(x)
    with torch.autocast("cpu", torch.bfloat16):
        near, near_state = body(x)
        near.float().square().mean().backward()
        if body.causal:
            following, _ = body(x, near_state)
            body.step(x[:, 0], near_state)
    assert (near - y).abs().max() <= AUTOCAST_TOLERANCE * y.abs().max()
    if body.causal:
        expected, _ = body(x, state)
        assert (following - expected).abs().max() <= AUTOCAST_TOLERANCE * expected.abs().max()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_copy_is_the_same_body(name: str) -> None:
    body, x = build(name), normal(2, 5, 16)
    assert torch.equal(copy.deepcopy(body)(x)[0], body(x)[0])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_body_on_the_meta_device_has_the_same_size_and_operations(name: str) -> None:
    with torch.device("meta"):
        body = ARCHITECTURES[name](16)
        shapes = {key: value.shape for key, value in body.state_dict().items()}
        flops = body.flops_per_token(100)
    real = build(name)
    assert shapes == {key: value.shape for key, value in real.state_dict().items()}
    assert flops == real.flops_per_token(100)


def test_the_cache_of_attention_keeps_keys_and_values_alone() -> None:
    _, ((key, value, real),) = build("transformer", layers=1)(normal(3, 9, 16))
    assert real is None
    for tensor in (key, value):
        assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()


def test_width_multiples_are_those_that_can_be_built() -> None:
    for name, options in [
        ("transformer", {"heads": 3}),
        ("bilstm_stack", {}),
        ("bidirectional", {"inner": "transformer", "options": {"heads": 3}}),
    ]:
        multiple = ARCHITECTURES[name].width_multiple(**options)
        build(name, 2 * multiple, **options)
        with pytest.raises(ValueError, match="must divide width"):
            build(name, 2 * multiple + 1, **options)
