"""The laws of writing an answer catch the body that breaks them."""

from __future__ import annotations

import pytest
import torch

from architectures.encoder_decoder import EncoderDecoder
from bench.certify.laws import LAWS
from bench.certify.report import lines
from tests.decoding_mutants import MUTANTS

DECODING = (
    "decoding_in_any_split",
    "a_source_alone_is_the_source_in_a_batch",
    "gradients_reach_the_source",
)


@pytest.mark.parametrize(
    ("mutant", "law"),
    MUTANTS,
)
def test_each_mutant_is_caught_by_the_law_meant_for_it(
    mutant: type[EncoderDecoder], law: str
) -> None:
    finding = LAWS[law](lambda: mutant(13, attention="luong"), torch.float64, torch.device("cpu"))
    assert not finding.holds
    assert "BROKEN" in lines("mutant", "reference", [finding])


@pytest.mark.parametrize("law", DECODING)
def test_the_body_that_the_mutants_are_made_of_keeps_the_laws(law: str) -> None:
    finding = LAWS[law](
        lambda: EncoderDecoder(13, attention="luong"), torch.float64, torch.device("cpu")
    )
    assert finding.holds, finding
