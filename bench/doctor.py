"""What is installed here, and which kernel every architecture takes: found by running it."""

from __future__ import annotations

from importlib import metadata
from typing import Any

import torch

from architectures import ARCHITECTURES
from architectures.kernels import paths
from architectures.kernels.native import library
from architectures.kernels.native.build import BuildError, cache_folder, find_compiler
from bench.catalogue import body_class, body_options, make_body, task_class
from bench.errors import UserError
from bench.launch import machine
from bench.measure import calibrate
from bench.plugins import one_line, outside
from bench.records.provenance import provenance
from bench.spec import Choice
from bench.training import allocator, products

OPTIONAL = {
    "mamba-ssm": "gpu",
    "causal-conv1d": "gpu",
    "nvidia-ml-py": "gpu",
    "scikit-learn": "data",
    "mlxtend": "data",
    "wandb": "wandb",
}
WIDTH = 64


def report() -> str:
    """The findings, as text."""
    found = provenance()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    names = dict.fromkeys([*ARCHITECTURES, *outside("architectures")])
    settled = products.settle(device)
    operations = paths.Recorder()
    kernels = {name: _kernel(name, device, operations) for name in names}
    lines = [
        f"machine   {found['processor']}, {found['cores']} cores, "
        f"{found['memory_bytes'] / 2**30:.1f} GiB",
        f"device    {torch.cuda.get_device_name() if device.type == 'cuda' else 'cpu'}",
        f"code      commit {found['git_commit']}{' with changes' if found['git_dirty'] else ''}",
        f"python    {found['python']}",
        *(f"{name:9} {version}" for name, version in found["versions"].items()),
        f"compiler  {_compiler()}",
        f"cache     {cache_folder()}",
        f"products  {_products(settled)}",
        f"allocator {allocator.keep_freed_memory()}",
        "",
        "optional packages",
        *(f"  {name:15} {_installed(name, extra)}" for name, extra in OPTIONAL.items()),
        "",
        f"native code of operations (SEQBENCH_KERNELS={library.chosen()})",
        *(f"  {name:20} {_native(name)}" for name in library.KERNELS),
        "",
        f"path of each operation on {device.type} in float32",
        *(f"  {name:20} {path}" for name, path in operations.paths.items()),
        "",
        f"kernel of each architecture on {device.type} in float32",
        *(f"  {_shown(name):15} {kernel}" for name, kernel in kernels.items()),
        *_of_other_packages(),
    ]
    return "\n".join(lines)


def calibration(threads: int) -> str:
    """Measure what this machine can do, with nothing else of the user's on it, and say it."""
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    with machine.alone(print):
        return calibrate.as_text(calibrate.calibrate(device, threads))


def _installed(package: str, extra: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return f"missing: pip install 'seqbench[{extra}]'"


def _compiler() -> str:
    """What compiles native code, or why there is none."""
    try:
        return " ".join(find_compiler())
    except BuildError as error:
        return f"none: {error}"


def _products(settled: dict[str, Any] | None) -> str:
    """The library of float32 matrix products, and why."""
    if settled is None:
        return "those of the device"
    error, times = settled.get("error_ratio"), settled.get("time_ratio")
    found = "" if error is None else f" (oneDNN: error x {error:.2f}, time x {times:.2f})"
    reason = settled.get("reason", "")
    return f"{settled['library']}{found}{reason and f': {reason}'}"


def _native(name: str) -> str:
    """Whether an operation's native code runs, after the architectures have asked for it."""
    if library.chosen() == "reference":
        return "off: SEQBENCH_KERNELS=reference"
    kernel = library.KERNELS[name]
    if kernel.reason is not None:
        return f"off: {kernel.reason}"
    return "ready" if library.ready(name) else "off"


def _kernel(name: str, device: torch.device, operations: paths.Recorder) -> str:
    """The kernel of an architecture; its operations' paths are added to those of the others."""
    choice = Choice(name=name)
    try:
        multiple = body_class(name).width_multiple(**body_options(choice))
        width = -(-WIDTH // multiple) * multiple
        found = make_body(choice, width).to(device).kernel_paths()
    except Exception as error:  # a body of another package may raise anything
        return f"none: {one_line(error)}"
    for operation, path in found.items():
        for one in path.split("+"):
            operations.add(operation, one)
    return paths.name_of(found)


def _of_other_packages() -> list[str]:
    """A line for each name that they register: whose it is, or why it cannot be used."""
    lines = []
    for entry in (*outside("architectures").values(), *outside("tasks").values()):
        find = body_class if entry.catalogue == "architectures" else task_class
        try:
            find(entry.name)
            said = str(entry)
        except UserError as error:
            said = str(error)
        lines.append(f"  {_shown(entry.name):15} {said}")
    return ["", "architectures and tasks of other packages", *lines] if lines else []


def _shown(name: str) -> str:
    """A name without what a terminal would obey."""
    return ascii(name)[1:-1]
