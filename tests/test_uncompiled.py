"""torch.compile leaves the loops over tokens to Python, and compiles what is around them once."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from architectures.kernels.linear_scan import linear_scan
from architectures.kernels.selective_scan import selective_scan
from architectures.kernels.slstm import slstm
from architectures.kernels.uncompiled import left_to_python

# The compiler's own, of tensors that it looks at between two graphs.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")

SCANS: dict[str, tuple[Any, list[tuple[int, ...]]]] = {
    "linear_scan": (linear_scan, [(2, 5, 3), (2, 5, 3)]),
    "selective_scan": (
        selective_scan,
        [(2, 5, 3), (2, 5, 3), (3, 4), (2, 5, 4), (2, 5, 4), (3,)],
    ),
    "slstm": (slstm, [(2, 5, 3, 8), (3, 2, 8)]),
}


class Graphs:
    """A backend that compiles nothing and keeps the number of operations of each graph."""

    def __init__(self) -> None:
        self.n_operations: list[int] = []

    def __call__(self, graph: torch.fx.GraphModule, _: list[Tensor]) -> Any:
        self.n_operations.append(sum(node.op != "output" for node in graph.graph.nodes))
        return graph.forward


@pytest.mark.parametrize("name", SCANS)
def test_no_graph_holds_the_steps_of_a_scan(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQBENCH_KERNELS", "reference")  # native code has no loop to unroll
    scan, shapes = SCANS[name]
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.rand(*shape, generator=generator, requires_grad=True) for shape in shapes]

    def around(*inputs: Tensor) -> Tensor:
        doubled = [2.0 * x for x in inputs]
        y = scan(*doubled)
        first: Tensor = y[0] if isinstance(y, tuple) else y
        return first + 1.0

    graphs = Graphs()
    torch.compiler.reset()
    compiled = torch.compile(around, backend=graphs)
    expected = torch.autograd.grad(around(*inputs).square().sum(), inputs)
    for _ in range(3):
        found = torch.autograd.grad(compiled(*inputs).square().sum(), inputs)
        assert all(map(torch.equal, found, expected))
    torch.compiler.reset()
    # Before the scan, where it is dispatched, and after it, whatever the calls.
    assert len(graphs.n_operations) <= 3
    assert max(graphs.n_operations) <= 2 * len(inputs)


def test_the_function_runs_as_it_is_in_compiled_callers_alone() -> None:
    compiling = []

    @left_to_python
    def scan(x: Tensor) -> Tensor:
        compiling.append(torch.compiler.is_compiling())
        return x.sin()

    body = nn.Sequential(nn.Linear(3, 3))
    torch.compiler.reset()
    compiled = torch.compile(lambda x: scan(body(x)), backend="eager")
    x = torch.ones(2, 3)
    assert torch.equal(compiled(x), scan(body(x)))
    torch.compiler.reset()
    assert compiling == [False, False]
