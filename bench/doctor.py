"""What is installed here, and which kernel every architecture takes."""

from __future__ import annotations

import shutil
from importlib import metadata

import torch

from architectures import ARCHITECTURES
from bench.catalogue import body_class, body_options, make_body, task_class
from bench.errors import UserError
from bench.plugins import one_line, outside
from bench.records.provenance import provenance
from bench.spec import Choice

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
    lines = [
        f"machine   {found['processor']}, {found['cores']} cores, "
        f"{found['memory_bytes'] / 2**30:.1f} GiB",
        f"device    {torch.cuda.get_device_name() if device.type == 'cuda' else 'cpu'}",
        f"code      commit {found['git_commit']}{' with changes' if found['git_dirty'] else ''}",
        f"python    {found['python']}",
        *(f"{name:9} {version}" for name, version in found["versions"].items()),
        f"compiler  {shutil.which('c++') or 'none'}",
        "",
        "optional packages",
        *(f"  {name:15} {_installed(name, extra)}" for name, extra in OPTIONAL.items()),
        "",
        f"kernel of each architecture on {device.type} in float32",
        *(f"  {_shown(name):15} {_kernel(name, device)}" for name in names),
        *_of_other_packages(),
    ]
    return "\n".join(lines)


def _installed(package: str, extra: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return f"missing: pip install 'seqbench[{extra}]'"


def _kernel(name: str, device: torch.device) -> str:
    choice = Choice(name=name)
    try:
        multiple = body_class(name).width_multiple(**body_options(choice))
        width = -(-WIDTH // multiple) * multiple
        return make_body(choice, width).to(device).kernel
    except Exception as error:  # a body of another package may raise anything
        return f"none: {one_line(error)}"


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
