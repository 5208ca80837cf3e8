"""Lightning's end of a tracker: https://lightning.ai/docs/pytorch/stable/extensions/logging.html.

Its own loggers of the same tools are not used: that of Weights & Biases counts lines of its own
beside the steps, so that a run that goes on is shown twice where it overlaps and a push of its row
has other steps than the run had; that of TensorBoard writes by another package where one is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.loggers import Logger

from bench.trackers.follow import Follower


class CurveLogger(Logger):
    """Tells a tracker what the module adds to its curves.

    The configuration and the end are those of the row, so that nothing is logged for `fit` and
    `test`, whose ends Lightning reports one by one.
    """

    def __init__(self, follower: Follower) -> None:
        super().__init__()
        self.follower = follower

    @property
    def name(self) -> str:
        """Of the tracker."""
        return self.follower.name

    @property
    def version(self) -> str:
        """There are no versions of a run."""
        return ""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add a point to each of some curves."""
        assert step is not None, "every point of a curve has its step"
        self.follower.log(step, metrics)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the row has them."""
