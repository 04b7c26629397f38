"""Curation on a schedule: each tick selects from what is new in a growing pool, given all that was picked before."""
