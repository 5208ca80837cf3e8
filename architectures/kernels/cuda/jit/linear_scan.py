"""The linear scan, h_i = a_i h_{i-1} + x_i, in Triton: real, or complex as pairs of floats.

Time is cut into chunks, so that one long row fills a device as many short rows do:

1. `chunk_ends`: what each chunk makes of zero, and the product of its decays, all chunks at once;
2. `chunk_starts`: from chunk to chunk, the state that each begins with;
3. `scan`: all states, all chunks at once.

With one chunk for each row the third does it alone. Inside a chunk, tiles of TILE tokens times
BLOCK columns are scanned as a tree: neighbouring threads read neighbouring columns, and a tile's
loads are under way together, where one token at a time would wait for the memory T times.

With REVERSE the scan is the walk back: step i reads token T - 1 - i, and the decay is the conjugate
of that of the token after, as kernels/linear_scan.py derives. Then `scan` gives grad b, and grad a,
conj(h_{t-1}) grad b_t, of each token, or summed over the chunk's where a is constant in time.

Pointers are to floats; widths and strides count numbers, real or complex.
B batch, T time, N state, P chunks. One program: a row's chunk times a block of columns.
"""

import triton
import triton.language as tl


@triton.jit
def _after(a0, x0, a1, x1):
    """First the step (a0, x0), then (a1, x1)."""
    return a1 * a0, a1 * x0 + x1


@triton.jit
def _after_complex(ar0, ai0, xr0, xi0, ar1, ai1, xr1, xi1):
    """As `_after`, real and imaginary parts apart."""
    return (
        ar1 * ar0 - ai1 * ai0,
        ar1 * ai0 + ai1 * ar0,
        ar1 * xr0 - ai1 * xi0 + xr1,
        ar1 * xi0 + ai1 * xr0 + xi1,
    )


@triton.jit
def _load(pointer, offset, mask, other, COMPLEX: tl.constexpr):
    """The numbers at an offset: real parts, and imaginary parts or zeros."""
    if COMPLEX:
        real = tl.load(pointer + 2 * offset, mask=mask, other=other)
        imaginary = tl.load(pointer + 2 * offset + 1, mask=mask, other=0.0)
    else:
        real = tl.load(pointer + offset, mask=mask, other=other)
        imaginary = tl.zeros_like(real)
    return real, imaginary


@triton.jit
def _store(pointer, offset, real, imaginary, mask, COMPLEX: tl.constexpr):
    if COMPLEX:
        tl.store(pointer + 2 * offset, real, mask=mask)
        tl.store(pointer + 2 * offset + 1, imaginary, mask=mask)
    else:
        tl.store(pointer + offset, real, mask=mask)


@triton.jit
def _place(n_tokens, N, n_chunks, BLOCK: tl.constexpr):
    """Row, chunk, its first step, and the columns (1, BLOCK), of this program."""
    program = tl.program_id(0).to(tl.int64)
    row, chunk = program // n_chunks, program % n_chunks
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    return row, chunk, chunk * n_tokens, columns


@triton.jit
def _tile(
    a, x, row, first, end, columns, T, N, a_row, a_time,
    REVERSE: tl.constexpr, COMPLEX: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Scan the steps from `first` up to `end`, from zero; what is beyond changes nothing.

    Returns the products of decays and the states, each real and imaginary, and offset and mask.
    """
    step = first + tl.arange(0, TILE)[:, None]  # (TILE, 1)
    mask = (step < end) & (columns < N)
    time = T - 1 - step if REVERSE else step
    offset = (row * T + time) * N + columns
    xr, xi = _load(x, offset, mask, 0.0, COMPLEX)
    if REVERSE:
        # The last token has none after it, and its step meets zero: any decay will do.
        a_offset = row * a_row + (time + 1) * a_time + columns
        ar, ai = _load(a, a_offset, mask & (step > 0), 1.0, COMPLEX)
        ai = -ai
    else:
        ar, ai = _load(a, row * a_row + time * a_time + columns, mask, 1.0, COMPLEX)
    if COMPLEX:
        ar, ai, hr, hi = tl.associative_scan((ar, ai, xr, xi), 0, _after_complex)
    else:
        ar, hr = tl.associative_scan((ar, xr), 0, _after)
        hi = xi
    return ar, ai, hr, hi, offset, mask


@triton.jit
def _continued(ar, ai, hr, hi, sr, si, COMPLEX: tl.constexpr):
    """The states of a tile that begins at the state s (1, BLOCK) and not at zero."""
    if COMPLEX:
        real, imaginary = hr + (ar * sr - ai * si), hi + (ar * si + ai * sr)
    else:
        real, imaginary = hr + ar * sr, hi
    return real, imaginary


@triton.jit
def _last(x, TILE: tl.constexpr):
    """The last row of a tile (TILE, BLOCK): (1, BLOCK)."""
    is_last = tl.arange(0, TILE)[:, None] == TILE - 1
    return tl.sum(tl.where(is_last, x, 0.0), axis=0)[None, :]


@triton.jit
def chunk_ends(
    a, x, ends, products, T, N, n_tokens, n_chunks, a_row, a_time,
    REVERSE: tl.constexpr, COMPLEX: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Of each chunk, the state at its end from zero, and the product of its decays: (B, P, N)."""
    row, chunk, first, columns = _place(n_tokens, N, n_chunks, BLOCK)
    end = tl.minimum(first + n_tokens, T)
    pr = tl.full((1, BLOCK), 1.0, tl.float32)
    pi, sr, si = tl.zeros_like(pr), tl.zeros_like(pr), tl.zeros_like(pr)
    for at in tl.range(first, end, TILE, num_stages=2):
        ar, ai, hr, hi, _, _ = _tile(
            a, x, row, at, end, columns, T, N, a_row, a_time, REVERSE, COMPLEX, TILE
        )
        hr, hi = _continued(ar, ai, hr, hi, sr, si, COMPLEX)
        sr, si = _last(hr, TILE), _last(hi, TILE)
        wr, wi = _last(ar, TILE), _last(ai, TILE)
        if COMPLEX:
            pr, pi = wr * pr - wi * pi, wr * pi + wi * pr
        else:
            pr = wr * pr
    offset = (row * n_chunks + chunk) * N + columns
    _store(ends, offset, sr, si, columns < N, COMPLEX)
    _store(products, offset, pr, pi, columns < N, COMPLEX)


@triton.jit
def chunk_starts(
    ends, products, start, starts, N, n_chunks, COMPLEX: tl.constexpr, BLOCK: tl.constexpr
):
    """The state (B, P, N) at which each chunk begins; the first at `start` (B, N)."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = columns < N
    sr, si = _load(start, row * N + columns, mask, 0.0, COMPLEX)
    for chunk in tl.range(0, n_chunks, num_stages=4):
        offset = (row * n_chunks + chunk) * N + columns
        _store(starts, offset, sr, si, mask, COMPLEX)
        er, ei = _load(ends, offset, mask, 0.0, COMPLEX)
        pr, pi = _load(products, offset, mask, 0.0, COMPLEX)
        if COMPLEX:
            sr, si = pr * sr - pi * si + er, pr * si + pi * sr + ei
        else:
            sr = pr * sr + er


@triton.jit
def scan(
    a, x, starts, y, states, state, grad_a, T, N, n_tokens, n_chunks, a_row, a_time,
    REVERSE: tl.constexpr, COMPLEX: tl.constexpr, WANTS_A: tl.constexpr, SUMS_A: tl.constexpr,
    TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """All y (B, T, N) from the starts of chunks (B, P, N).

    WANTS_A, in reverse: also grad_a (B, T, N) from `states` (B, T, N) and the first `state`
    (B, N); with SUMS_A summed over the tokens of a chunk, (B, P, N).
    """
    row, chunk, first, columns = _place(n_tokens, N, n_chunks, BLOCK)
    end = tl.minimum(first + n_tokens, T)
    of_chunk = (row * n_chunks + chunk) * N + columns
    sr, si = _load(starts, of_chunk, columns < N, 0.0, COMPLEX)
    total_r = tl.zeros((1, BLOCK), tl.float32)
    total_i = tl.zeros((1, BLOCK), tl.float32)
    for at in tl.range(first, end, TILE, num_stages=2):
        ar, ai, hr, hi, offset, mask = _tile(
            a, x, row, at, end, columns, T, N, a_row, a_time, REVERSE, COMPLEX, TILE
        )
        hr, hi = _continued(ar, ai, hr, hi, sr, si, COMPLEX)
        _store(y, offset, hr, hi, mask, COMPLEX)
        sr, si = _last(hr, TILE), _last(hi, TILE)
        if WANTS_A:
            is_first = (T - 1 - at - tl.arange(0, TILE)[:, None]) == 0
            br, bi = _load(states, offset - N, mask & (is_first == 0), 0.0, COMPLEX)
            fr, fi = _load(state, row * N + columns + 0 * offset, mask & is_first, 0.0, COMPLEX)
            br, bi = tl.where(is_first, fr, br), tl.where(is_first, fi, bi)
            if COMPLEX:
                gr, gi = br * hr + bi * hi, br * hi - bi * hr
            else:
                gr, gi = br * hr, hi
            if SUMS_A:
                total_r += tl.sum(tl.where(mask, gr, 0.0), axis=0)[None, :]
                total_i += tl.sum(tl.where(mask, gi, 0.0), axis=0)[None, :]
            else:
                _store(grad_a, offset, gr, gi, mask, COMPLEX)
    if WANTS_A and SUMS_A:
        _store(grad_a, of_chunk, total_r, total_i, columns < N, COMPLEX)
