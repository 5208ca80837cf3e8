"""A step as a CUDA graph, as far as a CPU goes: buffers, refusals, a fake of the capture."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from architectures import ARCHITECTURES
from architectures.body import Body
from architectures.kernels.cuda import graphs
from architectures.kernels.cuda.graphs import CaptureError, GraphedStep
from tests.native_operations import normal

RECURRENT = ["lstm", "rwkv4", "mamba2", "xlstm", "s5"]
WIDTH = 16


class Replay:
    """What a capture would leave: it runs the step on the same buffers."""

    def __init__(self, run: Callable[[], None], device: torch.device) -> None:
        for _ in range(graphs.WARM_UP_STEPS):  # these move the buffers' state
            run()
        self.replay = run


def begun(name: str) -> tuple[Body, Any, torch.Tensor]:
    torch.manual_seed(0)
    body = ARCHITECTURES[name](WIDTH)
    x = normal(3, 7, WIDTH).float()
    with torch.no_grad():
        _, state = body.step(x[:, 0])
    return body, state, x


@pytest.mark.parametrize("name", RECURRENT)
def test_replayed_steps_equal_eager_steps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "captured", Replay)
    body, start, x = begun(name)
    graphed = GraphedStep(body, x[:, 1], start)
    for _ in range(2):
        graphed.reset(start)
        state = start
        for t in range(1, 7):
            with torch.no_grad():
                y_t, state = body.step(x[:, t], state)
            torch.testing.assert_close(graphed(x[:, t]), y_t, rtol=0, atol=0)
        torch.testing.assert_close(graphed.state, state, rtol=0, atol=0)


def test_the_given_state_is_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "captured", Replay)
    body, start, x = begun("rwkv4")
    before = [s.clone() for s in graphs.state_tensors(start)]
    graphed = GraphedStep(body, x[:, 1], start)
    kept = graphed.state
    after = [s.clone() for s in graphs.state_tensors(kept)]
    graphed(x[:, 1])
    assert all(map(torch.equal, graphs.state_tensors(start), before))
    assert all(map(torch.equal, graphs.state_tensors(kept), after))


def test_a_state_that_swaps_its_tensors_is_not_overwritten_before_it_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Swap(Body):
        def step(self, x_t: torch.Tensor, state: Any = None) -> Any:
            return x_t, (state[1], state[0])

    monkeypatch.setattr(graphs, "captured", Replay)
    one, two = torch.ones(3, WIDTH), torch.full((3, WIDTH), 2.0)
    graphed = GraphedStep(Swap(WIDTH), one, (one, two))
    graphed(one)
    assert torch.equal(graphed.state[0], two)
    assert torch.equal(graphed.state[1], one)


def test_a_state_that_grows_is_refused() -> None:
    body, state, x = begun("transformer")
    with pytest.raises(ValueError, match="the state of Transformer grows with the tokens read"):
        GraphedStep(body, x[:, 1], state)


def test_another_device_and_no_state_are_refused() -> None:
    body, state, x = begun("lstm")
    with pytest.raises(ValueError, match="needs a CUDA device, and x_t is on cpu"):
        GraphedStep(body, x[:, 1], state)
    with pytest.raises(ValueError, match="pass the one that a first token left"):
        GraphedStep(body, x[:, 1], None)


def test_another_shape_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "captured", Replay)
    body, state, x = begun("rwkv4")
    graphed = GraphedStep(body, x[:, 1], state)
    with pytest.raises(ValueError, match=r"x_t is \(2, 16\).*captured for \(3, 16\)"):
        graphed(x[:2, 1])  # it would be broadcast or written beyond
    with pytest.raises(ValueError, match="another structure"):
        graphed.reset((state,))


def test_a_step_that_cannot_be_captured_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    class Context:
        def __enter__(self) -> None:
            return None

        def __exit__(self, *_: object) -> None:
            return None

    class Stream(Context):
        def wait_stream(self, other: object) -> None:
            return None

    for name in ("device", "stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, lambda _: Context())
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: "the graph")
    runs: list[int] = []
    assert graphs.captured(lambda: runs.append(1), torch.device("cuda", 0)) == "the graph"
    assert len(runs) == graphs.WARM_UP_STEPS + 1

    def waits() -> None:
        runs.append(1)
        if len(runs) > graphs.WARM_UP_STEPS:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

    runs.clear()
    with pytest.raises(CaptureError, match=r"cannot be captured: RuntimeError: .* capturing$"):
        graphs.captured(waits, torch.device("cuda", 0))
