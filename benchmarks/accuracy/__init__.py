"""How far each op's numbers are from the true ones, in units in the last place (``python -m benchmarks.accuracy``)."""
