"""Which rows may beat a pick? Nearly all are excluded by a proof, from copies that are quick to multiply.

theorem (the bound, and how errors add up), arithmetic (products with copies), copies (float32, bfloat16, int8), kernels
(one chunk of rows against one block of picks), screen (a shard's tracked scores and its passes), speed (which copies
this machine multiplies fast).

The theorem. Let y be the copy of a row x, and r >= |x - y|. For any positive semi-definite G of largest eigenvalue at
most l, | sqrt(x'Gx) - sqrt(y'Gy) | <= sqrt(l) r: both roots are norms of a vector, and those differ by at most the norm
of the difference. Whatever picks have been made is one such G, so the bound does not grow with their number. A gain is
bounded from above by bounding each of a rule's forms (`Acquisition.forms`), from above or from below. A row whose bound
is below what a pick is worth cannot beat it; the few others are scored exactly, from the row itself, in float64.
"""
