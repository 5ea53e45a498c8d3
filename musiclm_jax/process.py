"""What commands ask of the process they run in, best before jax is imported."""

import ctypes
import os
import pathlib
import sys

# Of mallopt in glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_ACCELERATORS = ('nvidia[0-9]*', 'accel[0-9]*', 'vfio/[0-9]*')  # under /dev


def keep_memory() -> bool:
  """Keeps freed memory for what is allocated next, until the process ends.

  XLA:CPU frees what a step has used for its intermediate results and takes it
  again at the next step. glibc gives so large a piece back to the system at
  once, and every page of it is then mapped and cleared anew, in every
  training step. It takes one arena, since only the main one
  grows without mmap. Nothing happens where libc has no mallopt, and beside a GPU
  or TPU, whose host reads data in many threads instead.

  Returns:
    Whether it was done.
  """
  if os.environ.get('JAX_PLATFORMS') != 'cpu' and any(
      any(pathlib.Path('/dev').glob(name)) for name in _ACCELERATORS):
    return False
  try:
    mallopt = ctypes.CDLL(None).mallopt
  except (AttributeError, OSError, TypeError):
    return False
  return all([mallopt(_ARENA_MAX, 1), mallopt(_MMAP_MAX, 0),
              mallopt(_TRIM_THRESHOLD, -1)])


def cache_folder() -> pathlib.Path:
  """Where the user keeps what can be made again; RuntimeError if nowhere."""
  base = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
  return pathlib.Path(base).expanduser() / 'musiclm_jax'


def keep_programs() -> str:
  """Keeps compiled programs between runs, in the user's cache folder.

  JAX_COMPILATION_CACHE_DIR names another folder; '' keeps none.

  Returns:
    The folder, '' where there is none.
  """
  if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
    try:
      folder = cache_folder() / 'programs'
      folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
      return ''
    if not os.access(folder, os.W_OK):
      return ''
    os.environ['JAX_COMPILATION_CACHE_DIR'] = str(folder)
    # jax leaves out what compiles within a second: most of a small bundle.
    os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.2')
    if 'jax' in sys.modules:  # which has read its environment by now
      config = sys.modules['jax'].config
      config.update('jax_compilation_cache_dir', str(folder))
      config.update('jax_persistent_cache_min_compile_time_secs', float(
          os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS']))
  return os.environ['JAX_COMPILATION_CACHE_DIR']
