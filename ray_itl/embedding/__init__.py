"""Turning a raw pool (texts, images) into a pool with embeddings, once and for all."""
