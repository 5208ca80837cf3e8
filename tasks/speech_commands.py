"""Speech Commands 0.02 as raw waveforms: Warden 2018, https://arxiv.org/abs/1804.03209."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tasks.data.folders import fingerprint_of, folder_of
from tasks.data.recordings import Listing, list_speech_commands
from tasks.recordings import Recordings
from tasks.task import Split

COMMANDS = ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes")
OTHER_WORDS = (
    *("backward", "bed", "bird", "cat", "dog", "eight", "five", "follow", "forward", "four"),
    *("happy", "house", "learn", "marvin", "nine", "one", "seven", "sheila", "six", "three"),
    *("tree", "two", "visual", "wow", "zero"),
)
WORDS = {10: COMMANDS, 35: tuple(sorted(COMMANDS + OTHER_WORDS))}


@dataclass(frozen=True, kw_only=True)
class SpeechCommands(Recordings):
    """A spoken word of 35, or of ten commands, from the raw waveform of one second.

    .01 -.03 .02 ... (16,000 samples) -> "go". The published lists of val and test, whose speakers
    are not in train: 84,843 train, 9,981 val and 11,005 test of 35 words. The ten words are the
    paper's commands, without its classes for silence and for other words; scores on a random split
    of them, whose test speakers are in train, are another thing. Chance is one in 35, or in ten.
    """

    data_sets: ClassVar[tuple[str, ...]] = ("speech_commands",)
    recorded_rate: ClassVar[int] = 16000
    rates: ClassVar[tuple[int, ...]] = (1000, 2000, 4000, 8000, 16000)

    length: int = 16000  # samples; no recording is longer than a second
    rate: int = 16000  # samples per second: 1000, 2000, 4000, 8000 or 16000
    n_words: int = 35  # or 10

    def __post_init__(self) -> None:
        """Refuse fields that name no task."""
        super().__post_init__()
        if self.n_words not in WORDS:
            raise ValueError(f"n_words must be one of {list(WORDS)}, not {self.n_words!r}")

    @property
    def n_outputs(self) -> int:
        """The words."""
        return self.n_words

    def listing(self, split: Split) -> Listing:
        """The recordings of a split."""
        return list_speech_commands(folder_of("speech_commands"), WORDS[self.n_words])[split]

    def fingerprint(self) -> str:
        """A hash of the archive's checksum."""
        return fingerprint_of("speech_commands")
