"""Small steps that every source shares: checking positions, and gathering chunks into a matrix."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from ray_itl.io.schema import WhichRow, embedding_rows


def check_positions(positions: np.ndarray, num_rows: int) -> np.ndarray:
    """Return positions as an int64 vector; IndexError if one is not within `0 <= position < num_rows`."""
    checked = np.asarray(positions, dtype=np.int64).reshape(-1)
    if checked.size and not 0 <= checked.min() <= checked.max() < num_rows:
        raise IndexError(f"positions {checked.min()} to {checked.max()} are not all within a pool of {num_rows} rows")
    return checked


def embedding_matrix(chunks: Sequence[pa.Array], dim: int, name: str, which: WhichRow) -> np.ndarray:
    """Return a checked `rows x dim` float64 copy of an embedding column's chunks (see `embedding_rows`)."""
    matrix = np.empty((sum(map(len, chunks)), dim))
    row = 0
    for chunk in chunks:
        matrix[row : row + len(chunk)] = embedding_rows(chunk, dim, name, lambda i, base=row: which(base + i))
        row += len(chunk)
    return matrix
