"""Raw rows into embeddings.

settings, embedder (features and gradients of a model), source (a pool embedded while it is read), parts (embeddings on
disk, part by part), on_ray (parts on a cluster), job (`embed_pool`).
"""
