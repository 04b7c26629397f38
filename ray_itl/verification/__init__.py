"""A finished run against the dense definitions.

verify, reopen (the run opened again), replay (gains replayed in kernel space), eligibility (which rows limits left open
at each pick), room (what budget and quotas leave, counted anew), stopping (was there the reason it gives), skipped
(were rows passed over rightly), heldout (were rows excluded rightly as nearly equal to held-out ones), floor (is the
floor under similarity the number that it should be), settings; queries (a sample of many, each for itself).
"""
