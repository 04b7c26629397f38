"""The pool over Ray actors.

settings, placement (how many shards and what each asks for), opening (a pool on the connected cluster), ray_pool (the
Pool protocol over actors), shard_group (shards called and rebuilt together), shard_processes (their actors),
shard_actor (what is in one), relay (many shards called by way of some of them); failures, policy and journal (what to
do about a lost one), codec (tensors on the wire), metrics.
"""
