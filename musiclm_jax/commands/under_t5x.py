"""Starts a program of T5X on a stage's leaf.

  python -m musiclm_jax.commands.under_t5x train --gin_file=gin/runs/t5x.gin \\
      --gin_file=gin/semantic_base.gin --gin.MODEL_DIR="'runs/semantic'" ...

`bash launch/local.sh t5x train ...` does it, and installs T5X. It is `python -m
t5x.train` (or eval, infer) with the same words, and with what `musiclm train`
does besides: gin files are found from any directory, the run file is read
before the leaf whatever their order, and a mistake is one line and exit code 2.
"""

from collections.abc import Sequence
import importlib.util
import runpy
import sys

from musiclm_jax import errors
from musiclm_jax.commands import entry

# program -> the run file that it needs.
RUNS = {'train': 'runs/t5x.gin', 'eval': 'runs/t5x_eval.gin',
        'infer': 'runs/t5x_infer.gin'}


def arranged(words: Sequence[str]) -> tuple[str, list[str]]:
  """The words for T5X of the words for us: gin files found and in order.

  Args:
    words: the program, then its words.
  Returns:
    (the program, words), gin files first.
  Raises:
    UserError: an unknown program or gin file, or no run file.
  """
  from musiclm_jax import configs  # pylint: disable=g-import-not-at-top
  if not words or words[0] not in RUNS:
    raise errors.choice('program of T5X', words[0] if words else '', RUNS)
  program, names, rest = words[0], [], []
  words = iter(words[1:])
  for word in words:
    option, given, name = word.partition('=')
    if option.lstrip('-') != 'gin_file':
      rest.append(word)
    elif given or (name := next(words, '')):
      names.append(name)
  if '--help' in rest or '--helpfull' in rest:
    return program, rest
  paths = [configs.resolve(name) for name in names]
  runs = configs.gin_root() / 'runs'
  if not any(path.parent == runs for path in paths):
    raise errors.UserError(
        f'no run file; add --gin_file=gin/{RUNS[program]} before the leaf.')
  # The last binding wins: a leaf's, not those of the run file.
  paths.sort(key=lambda path: path.parent != runs)
  return program, [f'--gin_file={path}' for path in paths] + rest


def main() -> None:
  """Runs the program in this process; a mistake exits with 2."""
  with entry.guarded('t5x'):
    if importlib.util.find_spec('t5x') is None:
      raise errors.UserError(
          'T5X is not installed; run `bash launch/local.sh t5x ...`, which '
          'installs it.')
    program, words = arranged(sys.argv[1:])
    sys.argv[1:] = words
    # gin files of T5X bind the functions of `__main__`.
    try:
      runpy.run_module(f't5x.{program}', run_name='__main__', alter_sys=True)
    except errors.UserError as error:
      # gin adds lines about where it was.
      text = str(error).split('\n  In call to configurable')[0]
      raise errors.UserError(text) from error


if __name__ == '__main__':
  main()
