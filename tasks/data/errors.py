"""What can be wrong with a data set: one line that says what to do."""


class DataError(ValueError):
    """A data set cannot be had, or is not what it should be."""


class ChecksumError(DataError):
    """A file is another than the one known."""
