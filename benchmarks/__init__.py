"""Benchmarks: every figure is a ratio of two things measured in one run (``docs/performance.md``)."""
