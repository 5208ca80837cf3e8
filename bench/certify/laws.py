"""All laws, and the certificate of a body: what each law found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

import torch

from architectures.body import Body
from bench.certify.decoding import (
    a_source_alone_is_the_source_in_a_batch,
    decoding_in_any_split,
    gradients_reach_the_source,
)
from bench.certify.dependence import (
    padding_changes_nothing,
    past_ignores_future_gradients,
    past_ignores_future_values,
    rows_do_not_mix,
)
from bench.certify.finding import Finding, MakeBody
from bench.certify.gradients import (
    gradients_match_differences,
    gradients_match_in_chunks,
    saving_keeps_the_body,
)
from bench.certify.kernels import fast_path_equals_reference
from bench.certify.robustness import (
    LONG_STREAM_STEPS,
    a_state_of_other_rows_is_refused,
    autocast_stays_near,
    compiling_changes_nothing,
    long_streams_do_not_drift,
    nan_shows_and_stays_in_its_row,
    one_token_and_one_row_are_enough,
)
from bench.certify.streaming import (
    split_invariance,
    state_is_never_mutated,
    state_size_is_as_stated,
    step_matches_forward,
)

SMALLEST_WIDTH = 13  # odd, and enough for heads of more than one rotated pair


class Law(Protocol):
    """Build a body, try it, and say by how much it breaks the law."""

    def __call__(self, make_body: MakeBody, dtype: torch.dtype, device: torch.device) -> Finding:
        """Run the law on a body of this dtype on this device."""
        ...


LAWS: dict[str, Law] = {
    "split_invariance": split_invariance,
    "step_matches_forward": step_matches_forward,
    "state_is_never_mutated": state_is_never_mutated,
    "state_size_is_as_stated": state_size_is_as_stated,
    "past_ignores_future_values": past_ignores_future_values,
    "past_ignores_future_gradients": past_ignores_future_gradients,
    "rows_do_not_mix": rows_do_not_mix,
    "padding_changes_nothing": padding_changes_nothing,
    "gradients_match_differences": gradients_match_differences,
    "gradients_match_in_chunks": gradients_match_in_chunks,
    "fast_path_equals_reference": fast_path_equals_reference,
    "saving_keeps_the_body": saving_keeps_the_body,
    "one_token_and_one_row_are_enough": one_token_and_one_row_are_enough,
    "a_state_of_other_rows_is_refused": a_state_of_other_rows_is_refused,
    "nan_shows_and_stays_in_its_row": nan_shows_and_stays_in_its_row,
    "autocast_stays_near": autocast_stays_near,
    "decoding_in_any_split": decoding_in_any_split,
    "a_source_alone_is_the_source_in_a_batch": a_source_alone_is_the_source_in_a_batch,
    "gradients_reach_the_source": gradients_reach_the_source,
    "long_streams_do_not_drift": long_streams_do_not_drift,
}

# Minutes for a body instead of a second.
THOROUGH_LAWS: dict[str, Law] = {
    **LAWS,
    "long_streams_do_not_drift": partial(long_streams_do_not_drift, n_steps=LONG_STREAM_STEPS),
    "compiling_changes_nothing": compiling_changes_nothing,
}


def certified_width(architecture: type[Body], **options: Any) -> int:
    """The smallest width from SMALLEST_WIDTH on that the architecture can have."""
    multiple = architecture.width_multiple(**options)
    return -(-SMALLEST_WIDTH // multiple) * multiple


def certify(
    name: str,
    make_body: MakeBody,
    *,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
    laws: Mapping[str, Law] = LAWS,
) -> list[Finding]:
    """Hold the body called `name` to every law. A law during which it raises is broken."""
    findings = []
    for law_name, law in laws.items():
        try:
            findings.append(law(make_body, dtype, torch.device(device)))
        except Exception as error:  # a body of anyone's may raise anything
            detail = f"{name} raised {type(error).__name__}: {error}"
            findings.append(Finding(law=law_name, error=math.inf, bound=0.0, detail=detail))
    return findings
