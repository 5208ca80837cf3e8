"""Every registered architecture keeps every law of architectures/body.py."""

from typing import Any

import pytest
import torch

from architectures import ARCHITECTURES, rwkv4, rwkv7
from architectures.body import Body
from architectures.gated_deltanet import GatedDeltaMixer
from architectures.layers.attention import Attention
from architectures.layers.recurrent import RecurrentStack
from architectures.linear_attention import LinearAttentionMixer
from architectures.lru import LruLayer
from architectures.mamba import MambaMixer
from architectures.mamba2 import Mamba2Mixer
from architectures.minlstm import MinLstmMixer
from architectures.s4 import S4Layer
from architectures.s4d import S4dLayer
from architectures.xlstm import MlstmMixer, SlstmMixer
from bench.certify.finding import MakeBody
from bench.certify.laws import LAWS, certified_width

# Options that take another path through the code than the defaults.
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("rnn", {"init": "identity", "nonlinearity": "relu", "dropout": 0.1}),
    ("irnn", {"layers": 1, "learn_initial_state": True}),
    ("rnn_stack", {"nonlinearity": "relu", "layers": 3, "dropout": 0.1}),
    ("lstm", {"learn_initial_state": True, "layers": 1, "mlp_ratio": 0.0}),
    ("lstm_stack", {"learn_initial_state": True}),
    ("gru_stack", {"learn_initial_state": True, "init": "orthogonal"}),
    ("bilstm_stack", {"learn_initial_state": True, "layers": 1}),
    ("bidirectional", {"inner": "transformer", "options": {"layers": 1}}),
    ("bidirectional", {"inner": "mamba", "options": {"layers": 1, "state": 5}}),
    ("s4d", {"init": "inv", "state": 6, "mlp_ratio": 1.5}),
    ("s4d", {"init": "lin", "state": 2, "layers": 1}),
    ("mingru", {"candidate": "positive", "expand": 2, "layers": 1}),
    ("minlstm", {"candidate": "positive", "forget_bias": 2.0, "mlp_ratio": 0.0}),
    ("lru", {"state": 5, "r_min": 0.9, "r_max": 0.999, "mlp_ratio": 1.5}),
    ("s5", {"state": 12, "init_blocks": 3, "dt_max": 1.0}),
    ("s4", {"state": 2, "layers": 1, "dt_max": 2.0, "mlp_ratio": 1.5}),
    ("mamba", {"taps": 1, "state": 3, "expand": 1}),
    ("mamba2", {"heads": 3, "state": 5, "taps": 1, "expand": 1}),
    ("linear_attention", {"heads": 1, "taps": 1, "layers": 1}),
    ("gated_deltanet", {"heads": 1, "expand": 1, "taps": 1, "layers": 1}),
    ("rwkv4", {"mlp_ratio": 0.0, "layers": 1}),
    ("rwkv7", {"mlp_ratio": 0.0, "heads": 1, "rank": 3, "layers": 3}),
    ("xlstm", {"slstm_every": 0, "heads": 3, "layers": 1}),
    ("xlstm", {"slstm_every": 1, "taps": 1, "heads": 1, "mlp_ratio": 0.0}),
    ("transformer", {"heads": 1, "layers": 1, "attention_dropout": 0.1}),
    ("transformer", {"window": 5, "kv_heads": 2}),
    ("hybrid", {"pattern": ["lstm", "transformer"], "repeats": 2}),
    ("hf", {"layers": 1, "heads": 2}),
    ("encoder_decoder", {"encoder": "bilstm_stack", "attention": "luong"}),
    ("transformer_bidirectional", {"window": 3, "position": "alibi"}),
]
# The backbone masks padding and checks calls: a mixer has to keep the laws without it.
MIXERS: dict[str, MakeBody] = {
    "recurrence": lambda: RecurrentStack(13, "lstm", layers=2, learn_initial_state=True),
    "minlstm": lambda: MinLstmMixer(13, expand=2),
    "lru": lambda: LruLayer(13, n_state=5, r_min=0.5, r_max=1.0, max_phase=6.0, dropout=0.0),
    "s4": lambda: S4Layer(13, n_state=6, dt_min=1e-3, dt_max=0.1, dropout=0.0),
    "s4d": lambda: S4dLayer(13, n_state=6, init="legs", dt_min=1e-3, dt_max=0.1, dropout=0.0),
    "mamba": lambda: MambaMixer(13, n_state=5, expand=2, taps=4),
    "linear_attention": lambda: LinearAttentionMixer(12, heads=2, taps=3),
    "mamba2": lambda: Mamba2Mixer(12, heads=3, n_state=5, expand=2, taps=4),
    "gated_delta": lambda: GatedDeltaMixer(12, heads=3, expand=1, taps=4),
    "rwkv4": lambda: rwkv4.TimeMixing(13, layer=1, layers=2),
    "rwkv7": lambda: rwkv7.TimeMixing(12, heads=3, rank=4, layer=1, layers=2),
    "mlstm": lambda: MlstmMixer(12, heads=3, expand=2, taps=4),
    "slstm": lambda: SlstmMixer(12, heads=3, taps=4),
    "attention": lambda: Attention(16, heads=2, dropout=0.0, rotary_base=10_000.0),
}
# In float32 the LSTM runs on oneDNN, which the laws have to hold for too.
FLOAT32_LAWS = ["split_invariance", "padding_changes_nothing", "gradients_match_in_chunks"]


def maker(name: str, options: dict[str, Any]) -> MakeBody:
    architecture = ARCHITECTURES[name]
    width = certified_width(architecture, **options)

    def make_body() -> Body:
        # Each architecture has options of its own, which Body's signature does not name.
        build: Any = architecture
        body: Body = build(width, **options)
        return body

    return make_body


def hold(law: str, name: str, options: dict[str, Any], dtype: torch.dtype) -> None:
    finding = LAWS[law](maker(name, options), dtype, torch.device("cpu"))
    assert finding.holds, finding


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("law", LAWS)
def test_law(law: str, name: str) -> None:
    hold(law, name, {}, torch.float64)


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=lambda value: str(value))
@pytest.mark.parametrize("law", LAWS)
def test_law_with_options(law: str, name: str, options: dict[str, Any]) -> None:
    hold(law, name, options, torch.float64)


@pytest.mark.parametrize("name", MIXERS)
@pytest.mark.parametrize("law", LAWS)
def test_law_of_a_mixer_alone(law: str, name: str) -> None:
    finding = LAWS[law](MIXERS[name], torch.float64, torch.device("cpu"))
    assert finding.holds, finding


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("law", FLOAT32_LAWS)
def test_law_in_float32(law: str, name: str) -> None:
    hold(law, name, {}, torch.float32)


def test_every_architecture_has_a_variant() -> None:
    assert set(dict(VARIANTS)) >= set(ARCHITECTURES) - {"gru"}  # lstm and rnn stand for its form
