"""Measurements: each file runs as ``python -m ha2g_live.benchmarks.NAME``."""
