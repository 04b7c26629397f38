"""Tests of connecting to a cluster and of waiting for room on it."""
