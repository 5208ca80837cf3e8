"""A whole Mamba block, without norm and residual, against mambapy's with the same parameters."""

from __future__ import annotations

import torch
from mambapy.mamba import MambaBlock, MambaConfig
from torch import nn

from architectures.mamba import MambaMixer
from tests.speed.kernel_table.comparison import BATCH, STATE, WIDTH, Comparison, normal

LENGTH, MODEL_WIDTH, TAPS = 2048, 64, 4
NAME = f"mamba block T={LENGTH}"


def comparison(device: torch.device, bound: float, variant: str = "") -> Comparison:
    """Forward, and backward to all parameters."""
    ours, theirs = blocks()
    ours, theirs = ours.to(device), theirs.to(device)
    x = normal(BATCH, LENGTH, MODEL_WIDTH, device=device)
    return Comparison(
        name=NAME + variant,
        native=lambda x, *_: ours(x)[0],
        peer_name="mambapy MambaBlock",
        peer=lambda x, *_: theirs(x),
        inputs=[x, *ours.parameters()],
        peer_inputs=[x, *theirs.parameters()],
        bound=bound,
        flops=3 * ours.flops_per_token(LENGTH) * BATCH * LENGTH,
    )


def blocks() -> tuple[MambaMixer, nn.Module]:
    """Ours and mambapy's, with equal parameters."""
    ours = MambaMixer(MODEL_WIDTH, n_state=STATE, expand=WIDTH // MODEL_WIDTH, taps=TAPS)
    config = MambaConfig(
        d_model=MODEL_WIDTH,
        n_layers=1,
        d_state=STATE,
        expand_factor=WIDTH // MODEL_WIDTH,
        d_conv=TAPS,
    )
    theirs: nn.Module = MambaBlock(config)
    parameters = ours.state_dict()
    parameters["conv1d.weight"] = parameters.pop("conv_weight").unsqueeze(1)
    parameters["conv1d.bias"] = parameters.pop("conv_bias")
    theirs.load_state_dict(parameters)
    return ours, theirs
