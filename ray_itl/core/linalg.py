"""Square-root linear algebra of Gaussian weight covariances.

A covariance S is carried as a root R with S = R R', never as S itself: x'Sx = |R'x|^2 then keeps full
relative accuracy down to variances of about 1e-30, where differences of squares would be all rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor

_ROWS_PER_QR = 4096
_ROWS_PER_SUM = 1024
COSINE_GRID = 2.0**32
"""Steps of a cosine of 1, on the grid that all cosines are rounded to (see `on_grid`)."""


def observe_row(root: Tensor, row: Tensor, noise_variance: float) -> tuple[Tensor, Tensor]:
    """Condition a covariance root on one noisy observation of `row` (Potter's square-root update).

    With f = R'y, c = f'f: R <- R - b (R f) f', b = 1 / ((c + s2) (1 + sqrt(s2 / (c + s2)))), so that
    the new R R' = S - S y y' S / (y'Sy + s2).

    Args:
        root: R, D x D float64.
        row: y, D float64.
        noise_variance: s2 > 0.

    Returns:
        w = S y / sqrt(y'Sy + s2), so that S falls by w w', and the new root, D x D. O(D^2).
    """
    f = root.mT @ row
    covariance, total = root @ f, float(f @ f) + noise_variance
    b = 1.0 / (total * (1.0 + (noise_variance / total) ** 0.5))
    return covariance / total**0.5, torch.addr(root, covariance, f, alpha=-b)


def condition_root_on_rows(root: Tensor, rows: Tensor, noise_variance: float, dim: int = 0) -> Tensor:
    """Condition a covariance root on noisy (or, at s2 = 0, noiseless) observations of many rows at once.

    With the singular value decomposition Y R = U diag(sigma) V':
    R <- R - R V diag(1 - sqrt(s2 / (sigma^2 + s2))) V'.
    At s2 = 0 directions whose singular value is rounding (sigma <= max(m, D) eps |Y|_F) are left alone,
    so rank-deficient rows are fine. A singular value decomposition rather than a Cholesky factor of
    Y S Y' + s2 I: its small singular values do not drown in the squares of the large ones.

    Args:
        root: R, D x D float64.
        rows: Y, m x D float64; m may exceed D.
        noise_variance: s2 >= 0.
        dim: Where rows are coordinates of longer ones, the length of these: products with them rounded by that.

    Returns:
        The new root, D x D. O(m D^2 + D^3).
    """
    if rows.shape[0] == 0:
        return root
    compact = compress_rows(rows)
    _, sigma, vt = torch.linalg.svd(compact @ root, full_matrices=False)
    if noise_variance > 0:
        shrink = 1.0 - (noise_variance / (sigma.square() + noise_variance)).sqrt()
    else:
        floor = max(rows.shape[0], root.shape[0], dim) * torch.finfo(root.dtype).eps * float(compact.norm())
        shrink = (sigma > floor).to(root.dtype)
    return root - (root @ vt.mT) * shrink @ vt


def compress_rows(rows: Tensor) -> Tensor:
    """Return at most D rows with the same second moment: T'T = Y'Y (T from a QR factorisation).

    Args:
        rows: Y, m x D float64.

    Returns:
        T, min(m, D) x D. O(m D^2), memory O(D^2) beyond the input.
    """
    num_rows, dim = rows.shape
    if num_rows <= dim:
        return rows
    compact = rows[:0]
    for start in range(0, num_rows, _ROWS_PER_QR):
        stacked = torch.cat([compact, rows[start : start + _ROWS_PER_QR]])
        compact = torch.linalg.qr(stacked, mode="r").R if stacked.shape[0] > dim else stacked
    return compact


def moment_rows(moment: Tensor) -> Tensor:
    """Return T, D x D, with T'T = a second moment X'X (D x D float64, up to its rounding). O(D^3)."""
    values, vectors = torch.linalg.eigh(moment)
    return values.clamp_min(0).sqrt()[:, None] * vectors.mT


def removed_factor(root: Tensor) -> Tensor:
    """Return F (D x r) with R R' = I - F F': what has been learnt, as few columns as its rank.

    x'Sx = |x|^2 - |x F|^2 then costs a product with r columns instead of D. O(D^3).
    """
    dim = root.shape[0]
    nothing = torch.eye(dim, dtype=root.dtype)
    if torch.equal(root, nothing):  # at the start of most runs, where the decomposition would take longest
        return root[:, :0]
    removed = nothing - root @ root.mT
    values, vectors = torch.linalg.eigh(removed)
    keep = values > 16 * dim**0.5 * torch.finfo(root.dtype).eps
    return vectors[:, keep] * values[keep].sqrt()


def unit_roundoff(dtype: torch.dtype) -> float:
    """Return u, the largest relative error of rounding a number to a type."""
    return torch.finfo(dtype).eps / 2


def on_grid(cosines: Tensor) -> Tensor:
    """Return cosines rounded to a grid of 2^-32.

    Equal rows then tie, and rows lie on the same side of a limit, however a processor adds up its products.
    """
    return torch.round(cosines * COSINE_GRID) / COSINE_GRID


def squared_norms(rows: Tensor) -> Tensor:
    """Return |x|^2 of every row in float64: N x D -> N. Memory for some rows at a time."""
    parts = [part.to(torch.float64).square().sum(dim=1) for part in rows.split(_ROWS_PER_SUM)]
    return torch.cat(parts) if len(parts) > 1 else parts[0]
