"""The wkv of RWKV-4 with its running maximum, and the walk back, in Triton.

One program is a row and BLOCK channels, sequential in time, as in the authors' own CUDA code: it
fills a device by rows and channels, and reads tokens ahead while it computes (`num_stages`). For
the walk back the state before each token is kept, (B, T, 3, E): to compute it again a program would
have to keep a chunk's states in registers, which Triton cannot index.

Of two exponentials whose larger exponent is taken off both, one is 1: a step takes two, not four.

B batch, T time, E width. Names as in kernels/wkv4.py.
"""

import triton
import triton.language as tl

PARTIAL = tl.constexpr(64)


@triton.jit
def _weigh(x, y):
    """exp(x - max(x, y)) and exp(y - max(x, y)); where both are -inf, or any is NaN, NaN."""
    difference = x - y
    weight = tl.exp(tl.where(difference >= 0, -difference, difference))
    return tl.where(difference >= 0, 1.0, weight), tl.where(difference >= 0, weight, 1.0)


@triton.jit
def _place(E, BLOCK: tl.constexpr):
    """The row and the channels (BLOCK,) of this program, and which of them there are."""
    channels = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    return tl.program_id(0).to(tl.int64), channels, channels < E


@triton.jit
def forward(
    w_ptr, u_ptr, k_ptr, v_ptr, a_ptr, b_ptr, p_ptr, lengths, y_ptr, end_a, end_b, end_p, states,
    T, E, HAS_LENGTHS: tl.constexpr, KEEP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Y (B, T, E), the state after `lengths` tokens, and with KEEP those before each token."""
    row, channels, mask = _place(E, BLOCK)
    at = row * E + channels
    w = tl.load(w_ptr + channels, mask=mask, other=0.0)
    u = tl.load(u_ptr + channels, mask=mask, other=0.0)
    a = tl.load(a_ptr + at, mask=mask, other=0.0)
    b = tl.load(b_ptr + at, mask=mask, other=0.0)
    p = tl.load(p_ptr + at, mask=mask, other=0.0)
    last = T - 1
    if HAS_LENGTHS:
        last = tl.load(lengths + row).to(tl.int32) - 1
    for t in tl.range(0, T, num_stages=4):
        here = (row * T + t) * E + channels
        k = tl.load(k_ptr + here, mask=mask, other=0.0)
        v = tl.load(v_ptr + here, mask=mask, other=0.0)
        if KEEP:
            kept = (row * T + t) * 3 * E + channels
            tl.store(states + kept, a, mask=mask)
            tl.store(states + kept + E, b, mask=mask)
            tl.store(states + kept + 2 * E, p, mask=mask)
        of_past, of_token = _weigh(p, u + k)
        y = (of_past * a + of_token * v) / (of_past * b + of_token)
        tl.store(y_ptr + here, y, mask=mask)
        of_past, of_token = _weigh(p - w, k)
        a = of_past * a + of_token * v
        b = of_past * b + of_token
        p = tl.maximum(p - w, k, propagate_nan=tl.PropagateNan.ALL)
        ends = mask & (t == last)
        tl.store(end_a + at, a, mask=ends)
        tl.store(end_b + at, b, mask=ends)
        tl.store(end_p + at, p, mask=ends)


@triton.jit
def backward(
    w_ptr, u_ptr, k_ptr, v_ptr, lengths, states, grad_y, grad_end_a, grad_end_b, grad_end_p,
    grad_w, grad_u, grad_k, grad_v, grad_a, grad_b, grad_p,
    T, E, HAS_LENGTHS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """All gradients; those of w and u of each row, (B, E).

    With A = a e^p the true numerator, ga is the gradient of A times e^p, and likewise gb. gp is
    what p itself gets: from the final state alone, since nothing else depends on how A is divided
    into a and p. It goes to whichever token was the maximum.
    """
    row, channels, mask = _place(E, BLOCK)
    at = row * E + channels
    w = tl.load(w_ptr + channels, mask=mask, other=0.0)
    u = tl.load(u_ptr + channels, mask=mask, other=0.0)
    end_a = tl.load(grad_end_a + at, mask=mask, other=0.0)
    end_b = tl.load(grad_end_b + at, mask=mask, other=0.0)
    end_p = tl.load(grad_end_p + at, mask=mask, other=0.0)
    last = T - 1
    if HAS_LENGTHS:
        last = tl.load(lengths + row).to(tl.int32) - 1
    ga, gb, gp = tl.zeros_like(w), tl.zeros_like(w), tl.zeros_like(w)
    sum_w, sum_u = tl.zeros_like(w), tl.zeros_like(w)
    part_w, part_u = tl.zeros_like(w), tl.zeros_like(w)
    a, b = tl.zeros_like(w), tl.zeros_like(w)
    for i in tl.range(0, T, num_stages=4):
        t = T - 1 - i
        here = (row * T + t) * E + channels
        kept = (row * T + t) * 3 * E + channels
        k = tl.load(k_ptr + here, mask=mask, other=0.0)
        v = tl.load(v_ptr + here, mask=mask, other=0.0)
        g = tl.load(grad_y + here, mask=mask, other=0.0)
        a = tl.load(states + kept, mask=mask, other=0.0)
        b = tl.load(states + kept + E, mask=mask, other=0.0)
        p = tl.load(states + kept + 2 * E, mask=mask, other=0.0)
        of_past, of_token = _weigh(p - w, k)
        next_a, next_b = of_past * a + of_token * v, of_past * b + of_token
        is_last = t == last
        ga += tl.where(is_last, end_a, 0.0)
        gb += tl.where(is_last, end_b, 0.0)
        gp += tl.where(is_last, end_p - end_a * next_a - end_b * next_b, 0.0)
        fallen = tl.where(p - w > k, gp, 0.0)
        part_w -= of_past * (ga * a + gb * b) + fallen
        gk = of_token * (ga * v + gb) + (gp - fallen)
        gv = of_token * ga
        ga, gb, gp = of_past * ga, of_past * gb, fallen
        of_past, of_token = _weigh(p, u + k)
        inverse = 1.0 / (of_past * b + of_token)
        y = (of_past * a + of_token * v) * inverse
        share = g * inverse
        exponent = of_token * share * (v - y)  # the gradient of u + k
        part_u += exponent
        tl.store(grad_k + here, gk + exponent, mask=mask)
        tl.store(grad_v + here, gv + of_token * share, mask=mask)
        ga += of_past * share
        gb -= of_past * share * y
        # PARTIAL tokens are summed apart: errors grow with their number, not with T.
        whole = t % PARTIAL == 0
        sum_w += tl.where(whole, part_w, 0.0)
        sum_u += tl.where(whole, part_u, 0.0)
        part_w, part_u = tl.where(whole, 0.0, part_w), tl.where(whole, 0.0, part_u)
    tl.store(grad_w + at, sum_w, mask=mask)
    tl.store(grad_u + at, sum_u, mask=mask)
    tl.store(grad_a + at, ga, mask=mask)
    tl.store(grad_b + at, gb, mask=mask)
    tl.store(grad_p + at, gp + ga * a + gb * b, mask=mask)  # a and b are those of the first token
