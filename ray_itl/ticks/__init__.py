"""Curation on a schedule.

tick (`run_tick`), problem (what the next tick selects from), changes (of the pool since earlier ticks), history (what
those saw and picked), pushing (the picks, to Hugging Face), state (the state directory), log (small whole files on any
filesystem), lease (one tick at a time).
"""
