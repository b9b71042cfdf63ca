"""Numba kernels: they know arrays and nothing else."""
