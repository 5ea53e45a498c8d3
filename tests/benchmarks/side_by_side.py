"""Timing of ours and a peer's, taking turns."""

import statistics
import time


def alternate(functions, runs):
  """{name: median seconds}; all take turns, after one run each to warm up."""
  for function in functions.values():
    function()
  times = {name: [] for name in functions}
  for _ in range(runs):
    for name, function in functions.items():
      start = time.perf_counter()
      function()
      times[name].append(time.perf_counter() - start)
  return {name: statistics.median(t) for name, t in times.items()}
