"""Timing of ours and a peer's, taking turns."""

import statistics
import time


def alternate(functions, runs, warm_up=1):
  """{name: median seconds}; all take turns, after `warm_up` runs of each."""
  for _ in range(warm_up):
    for function in functions.values():
      function()
  times = {name: [] for name in functions}
  for _ in range(runs):
    for name, function in functions.items():
      start = time.perf_counter()
      function()
      times[name].append(time.perf_counter() - start)
  return {name: statistics.median(t) for name, t in times.items()}
