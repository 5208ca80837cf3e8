"""Electricity transformer temperature, ETTh1: Zhou et al. 2021, https://arxiv.org/abs/2012.07436.

The published protocol predicts the next 24 to 720 hours at once from one window and averages over
them; here one hour is predicted at every step, as a stream is forecast, so that errors are not to
be compared with published ones. Split and standardisation are theirs (class Dataset_ETT_hour of
https://github.com/zhouhaoyi/Informer2020): months of 30 days, the last months unused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from tasks.data import hourly
from tasks.data.folders import fingerprint_of, folder_of
from tasks.hourly import Hourly
from tasks.task import Split

MONTH = 30 * 24  # hours


@dataclass(frozen=True, kw_only=True)
class Ett(Hourly):
    """ETTh1, seven hourly series of a power transformer: all of them one hour later, online.

    (-.04, .04, ... 1.46) -> (-.06, .07, ... 1.16): the values of the next hour, standardised. 12
    months of train, 4 of val and 4 of test, from July 2016. Chance, the mean of train, is worse
    than 1 on test: the loads had changed by then.
    """

    data_sets: ClassVar[tuple[str, ...]] = ("ett",)
    series: ClassVar[tuple[str, ...]] = hourly.ETT_COLUMNS[1:]
    bounds: ClassVar[Mapping[Split, tuple[int, int]]] = {
        "train": (0, 12 * MONTH),
        "val": (12 * MONTH, 16 * MONTH),
        "test": (16 * MONTH, 20 * MONTH),
    }
    mean_scores: ClassVar[tuple[float, float]] = (1.11089, 0.79461)
    persistence: ClassVar[Mapping[int, tuple[float, float]]] = {
        1: (0.17482, 0.25547),
        6: (1.39772, 0.72097),
        24: (0.42384, 0.38920),
        48: (0.49847, 0.42203),
        96: (0.59397, 0.47121),
        168: (0.67538, 0.51268),
        336: (0.72669, 0.54258),
        720: (0.85759, 0.61713),
    }

    def read(self) -> Tensor:
        """The file (17420, 7)."""
        return hourly.read_ett(folder_of("ett") / "ETTh1.csv")

    def fingerprint(self) -> str:
        """A hash of the file's checksum."""
        return fingerprint_of("ett")
