"""The engine on CUDA devices: what holds on the CPU holds there. The same tests run on the CPU, to be known to work."""
