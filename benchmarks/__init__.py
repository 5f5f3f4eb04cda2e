"""Benchmarks: every workload on flowgraph and on its rivals, side by side (``python -m benchmarks --help``)."""
