"""Pools over a Ray cluster. Import the modules by name; nothing here is imported by the layers below."""
