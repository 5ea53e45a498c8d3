"""How near decoded audio is to the original, as ears would judge it.

  visqol      ViSQOL v3, audio mode: 1..5 (Chinen et al., arXiv:2004.09584);
              package visqol-python
  zimtohrli   MOS from Zimtohrli's distance: 1..5; package zimtohrli

Both want 48 kHz: original and copy are resampled alike, so what lies above
12 kHz is missing in both and counts against neither. Pairs are judged in
processes of their own, which import neither jax nor the models.
"""

from collections.abc import Callable
from collections.abc import Sequence
import concurrent.futures
import importlib.util
import multiprocessing
import os

import numpy as np

RATE_HZ = 48_000
PACKAGES = dict(visqol=('visqol', 'visqol-python'),
                zimtohrli=('zimtohrli', 'zimtohrli'))
TITLES = dict(visqol='ViSQOL', zimtohrli='Zimtohrli')
_PROCESSES = 2
_THREAD_LIMITS = ('NUMBA_NUM_THREADS', 'OMP_NUM_THREADS',
                  'OPENBLAS_NUM_THREADS')


def missing() -> dict[str, str]:
  """{metric: the PyPI package that it lacks}."""
  return {metric: package for metric, (module, package) in PACKAGES.items()
          if importlib.util.find_spec(module) is None}


def score(
    metric: str, pairs: Sequence[tuple[np.ndarray, np.ndarray]],
    sample_rate_hz: int, progress: Callable[[int, int], None] | None = None,
    processes: int = _PROCESSES) -> np.ndarray:
  """A metric over pairs of clips.

  Args:
    metric: of PACKAGES, installed.
    pairs: [(original [N], copy [N])] float in -1..1.
    sample_rate_hz: of the clips.
    progress: None or a function of (pairs done, pairs).
    processes: pairs judged at a time; 1: in this process.

  Returns:
    [len(pairs)] float64, 1..5, higher is nearer.
  """
  result = np.zeros(len(pairs))
  report = progress or (lambda done, total: None)
  if processes == 1 or metric != 'visqol':  # zimtohrli is a quick call into C++
    for i, (original, copy) in enumerate(pairs):
      result[i] = _judge(metric, original, copy, sample_rate_hz)
      report(i + 1, len(pairs))
    return result
  # spawn: a fork of a process that runs jax may hang.
  context = multiprocessing.get_context('spawn')
  with concurrent.futures.ProcessPoolExecutor(
      processes, mp_context=context, initializer=_one_thread) as pool:
    waiting = {
        pool.submit(_judge, metric, np.asarray(original, np.float32),
                    np.asarray(copy, np.float32), sample_rate_hz): i
        for i, (original, copy) in enumerate(pairs)}
    for done, future in enumerate(
        concurrent.futures.as_completed(waiting), 1):
      result[waiting[future]] = future.result()
      report(done, len(pairs))
  return result


def _one_thread():
  """Each process has one thread: several do not help one clip much."""
  for name in _THREAD_LIMITS:
    os.environ[name] = '1'


def _judge(metric, original, copy, sample_rate_hz):
  """One pair at 48 kHz."""
  import soxr  # pylint: disable=g-import-not-at-top
  original, copy = (
      soxr.resample(np.asarray(x, np.float32), sample_rate_hz, RATE_HZ,
                    quality='HQ') for x in (original, copy))
  if metric == 'zimtohrli':
    import zimtohrli  # pylint: disable=g-import-not-at-top
    return float(zimtohrli.mos_from_signals(original, copy))
  result = _visqol().measure_from_arrays(
      original.astype(np.float64), copy.astype(np.float64), RATE_HZ)
  return float(result.moslqo)


def _visqol():
  """ViSQOL's model, read once a process."""
  global _VISQOL  # pylint: disable=global-statement
  if _VISQOL is None:
    import visqol  # pylint: disable=g-import-not-at-top
    _VISQOL = visqol.VisqolApi()
    _VISQOL.create(mode='audio')
  return _VISQOL


_VISQOL = None
