"""Spoken digits as raw waveforms: the Free Spoken Digit Dataset, Jackson et al.,
https://github.com/Jakobovski/free-spoken-digit-dataset.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tasks.data.errors import DataError
from tasks.data.folders import fingerprint_of, folder_of
from tasks.data.recordings import Listing, list_fsdd
from tasks.recordings import Recordings
from tasks.task import Split


@dataclass(frozen=True, kw_only=True)
class SpokenDigits(Recordings):
    """A spoken digit, from the raw waveform of six speakers.

    -.06 -.02 .21 ... (about 3,400 samples of 0.4 seconds) -> 7. The published test set, indices 0
    to 4 of each digit and speaker: 300 recordings; 5 to 9 are val, 300, and 10 to 49 train, 2,400.
    The same people speak in all three. Chance is 0.1.
    """

    data_sets: ClassVar[tuple[str, ...]] = ("fsdd",)
    recorded_rate: ClassVar[int] = 8000
    rates: ClassVar[tuple[int, ...]] = (1000, 2000, 4000, 8000)

    length: int = 8000  # samples; 1 in 150 recordings is longer than a second
    rate: int = 8000  # samples per second: 1000, 2000, 4000 or 8000

    @property
    def n_outputs(self) -> int:
        """The digits."""
        return 10

    def listing(self, split: Split) -> Listing:
        """The recordings of a split."""
        folder = folder_of("fsdd")
        for below in folder.glob("*/recordings"):  # the archive has a folder of its version
            return list_fsdd(below)[split]
        raise DataError(f"{folder} has no folder */recordings")

    def fingerprint(self) -> str:
        """A hash of the archive's checksum."""
        return fingerprint_of("fsdd")
