"""The engine: exact greedy selection in torch and numpy alone.

In reading order:

Mathematics: linalg (square roots of covariances), basis (what was observed spans), roots (the two forms of a root),
posterior, features (feature maps), acquisitions/ (the rules), reference (their dense float64 definitions), screening/
(which rows a proof excludes).
Shard side: feature_store, shard_rows (what a shard holds, whatever the run) and shard (PoolShard: where a run stands
with it), proposals (rows worth speculating with), challenges (rows in doubt, scored exactly), rules and row_rules
(which rows may be picked), collectors (bounded lists filled during a pass), ranking (one-shot rankings), near_rows
(those nearly equal to some others), similarity_floor (those like enough a target) and similarity_ranks (a floor that is
a share of the pool, as a number).
Between them: messages, pool (the Pool protocol and LocalPool), ids.
Driver side: greedy (GreedySelector: speculate, verify, accept), block_schedule, speculation, lookahead (its steps),
foremost (the candidates that these are made among), comparison (of the others with them), candidates and bounded_scores
(what is known of them), criteria and decision (the total order), trajectory, limits and quotas, baselines, rivals (the
runner-up of every pick), explain, result.
"""
