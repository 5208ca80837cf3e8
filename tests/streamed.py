"""A body whose step costs what a test says, on a clock that moves only when it runs."""

import torch

from architectures.body import Body
from bench.measure.streaming import Protocol, source_for, stream

POSITIONS = (1, 30, 300, 3000)


class Clock:
    """Time that passes only when a body says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Synthetic(Body):
    """y_t = x_t + the mean of all x so far, at a cost in seconds that is known for each position.

    State: the number of tokens and their sum, and all of them if it keeps them.
    """

    def __init__(self, clock, cost=lambda position: 1e-3, *, keeps=None, error=0.0, pass_s=1e-6):
        super().__init__(4)
        self.clock, self.cost, self.keeps, self.error = clock, cost, keeps, error
        self.pass_s = pass_s
        self.weight = torch.nn.Parameter(torch.ones((), dtype=torch.float64))
        self.noise = iter(())

    def forward(self, x, state=None, *, lengths=None):
        self.clock.now += self.pass_s * x.shape[1]
        return self.read(x, state)

    def step(self, x_t, state=None):
        y, state = self.read(x_t.unsqueeze(1), state)
        self.clock.now += self.cost(int(state[0][0])) * next(self.noise, 1.0)
        return y.squeeze(1) * (1 + self.error), state

    def read(self, x, state):
        n_rows, length, width = x.shape
        if state is None:
            state = (
                x.new_zeros(n_rows, 1),
                x.new_zeros(n_rows, width),
                x.new_zeros(n_rows, 0, width),
            )
        count, total, kept = state
        position = count.unsqueeze(2) + torch.arange(1, length + 1).view(1, -1, 1)
        sums = total.unsqueeze(1) + x.cumsum(1)
        if self.keeps:
            kept = torch.cat([kept, x], dim=1)[:, -self.keeps :].clone()
        return self.weight * (x + sums / position), (count + length, sums[:, -1].clone(), kept)


def streamed(body, clock, batch=1, positions=POSITIONS, reading_s=60.0):
    protocol = Protocol(positions, reading_s, seconds=1e-3, min_rounds=5, clock=clock)
    with torch.no_grad():
        return stream(body, source_for(body, batch, 0), protocol)
