"""ray_itl: exact information-based transductive learning over massive pools, on Ray."""
