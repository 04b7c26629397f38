"""Which claims of Parquet footers are believed: what is allocated later follows from them, so no small file may ask
for a lot of memory."""

from collections.abc import Sequence

from ray_itl.errors import InputError
from ray_itl.io.footer import GroupClaim

MAX_DIM = 1 << 16
MAX_EXCESS = 1 << 20
"""Numbers in a row group beyond what its rows should have: up to here the bad row is read, and named."""

# Real embeddings take more than a byte for each number. A column of one value takes next to nothing, so that a file of
# some kilobytes could ask for any amount of memory; it may ask for 64 MiB, and beyond that for 1000 numbers a byte.
_PER_BYTE = 1000
_FREE = 1 << 24


def check_amount(claims: Sequence[GroupClaim], size: int, path: str) -> None:
    """InputError if a file of `size` bytes claims rows or numbers of which it cannot hold that many."""
    for what, count in (("rows", sum(c.num_rows for c in claims)), ("numbers", sum(c.num_values for c in claims))):
        if count > _FREE + _PER_BYTE * size:
            raise InputError(
                f"file {path!r} claims {count:,} {what} in {size:,} bytes, which is not believed; write it again "
                "from real data"
            )


def check_dim(dim: int, column: str) -> None:
    """InputError if embeddings of this dimension are larger than any that are used."""
    if dim > MAX_DIM:
        raise InputError(
            f"embedding column {column!r} has dimension {dim:,}, more than {MAX_DIM:,}; name another column in "
            "embedding_column, or use smaller embeddings"
        )


def check_lengths(claims: Sequence[GroupClaim], dim: int, column: str, path: str) -> None:
    """InputError for a row group with far more numbers than its rows should have: a row may hold them all."""
    for group, claim in enumerate(claims):
        if claim.num_values > 2 * dim * claim.num_rows + MAX_EXCESS:
            raise wrong_lengths(group, claim, column, path)


def wrong_lengths(group: int, claim: GroupClaim, column: str, path: str) -> InputError:
    """Return the error for a row group whose rows cannot all have the same dimension."""
    return InputError(
        f"file {path!r}, row group {group}: column {column!r} has {claim.num_values:,} numbers in {claim.num_rows:,} "
        "rows; every row needs the same dimension, so embed the pool with one model"
    )
