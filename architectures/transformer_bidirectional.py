"""The Transformer's encoder: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.1,
with pre-norm, for tasks that let a model read ahead.
"""

from __future__ import annotations

from architectures.transformer import Transformer


class TransformerBidirectional(Transformer):
    """Transformer in which every token attends to all, before and after it.

    A window counts to either side. State: per layer the keys and values of all tokens; none is
    taken, as the first outputs depend on the last inputs.
    """

    causal = False
