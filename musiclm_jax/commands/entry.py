"""How a command ends: with a code, and a line on stderr if it is not 0.

  2    the user's mistake, or what the machine refuses: a full disk, a file
       that may not be read, a package that is not installed
  130  interrupted, 143 told to end (SIGTERM), 129 the terminal is gone:
       nothing half-written stays
  1    anything else, a bug: its traceback is shown

Every entry point runs in `guarded`.
"""

from collections.abc import Iterator
import contextlib
import signal
import sys
import threading

from musiclm_jax import errors

# Which extra of setup.py brings which module.
EXTRAS = {
    'train': ('gin', 'optax', 'orbax', 'absl', 'tensorboardX', 'tensorflow',
              'tensorflow_text', 'seqio', 'tensorflow_datasets'),
    'data': ('music21', 'pretty_midi', 'mido'),
    'hf': ('transformers', 'torch'),
    'web': ('fastapi', 'uvicorn', 'multipart', 'gradio', 'starlette',
            'pydantic'),
    'eval': ('matplotlib', 'onnxruntime', 'sklearn', 'imageio_ffmpeg',
             'swift_f0'),
}


@contextlib.contextmanager
def guarded(program: str, debug: bool = False) -> Iterator[None]:
  """Runs the body of a command; exits unless it ends well.

  Args:
    program: how the line on stderr begins.
    debug: whether what was raised shows its traceback.
  """
  for stream in (sys.stdout, sys.stderr):
    # A name or caption that the terminal cannot show is no reason to fail.
    if hasattr(stream, 'reconfigure'):
      stream.reconfigure(errors='backslashreplace')
  with _signals_unwind():
    try:
      yield
    except KeyboardInterrupt:
      print(f'{program}: interrupted', file=sys.stderr)
      sys.exit(130)
    except BrokenPipeError:
      sys.stderr.close()
      sys.exit(1)
    except Exception as error:  # pylint: disable=broad-exception-caught
      told = explained(error)
      if debug or not told:
        raise
      print(f'{program}: error: {" ".join(told.split())}', file=sys.stderr)
      sys.exit(2)


def explained(error: BaseException) -> str:
  """A sentence about what is not a bug; '' for what may be one."""
  if isinstance(error, errors.UserError):
    return str(error)
  return lacking(error) or errors.of_system(error)


def lacking(error: BaseException) -> str:
  """A sentence where a package of an extra is not installed, else ''."""
  for cause in errors.causes(error):
    if isinstance(cause, ModuleNotFoundError):
      name = (cause.name or '').split('.')[0]
      for extra, modules in EXTRAS.items():
        if name in modules:
          return (f'this needs {name}, which is not installed; run: pip '
                  f'install "musiclm_jax[{extra}]".')
  return ''


@contextlib.contextmanager
def _signals_unwind():
  """What ends a process ends the body as an exception does: files go."""
  if threading.current_thread() is not threading.main_thread():
    yield
    return

  def stop(number, unused_frame):
    sys.exit(128 + number)

  previous = {}
  for name in ('SIGTERM', 'SIGHUP'):  # Windows has no second one
    number = getattr(signal, name, None)
    if number and signal.getsignal(number) == signal.SIG_DFL:  # no nohup
      previous[number] = signal.signal(number, stop)
  try:
    yield
  finally:
    for number, handler in previous.items():
      signal.signal(number, handler)
