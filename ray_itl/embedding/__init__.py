"""Raw rows into embeddings.

settings, embedder (features and gradients of a model), source (a pool embedded while it is read), layout (which rows
are which part) and parts (embeddings on disk), keeping (of tries before), on_ray (parts on a cluster), job
(`embed_pool`).
"""
