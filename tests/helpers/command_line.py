"""`musiclm` in this process, as the shell sees it."""

from musiclm_jax.commands import cli


def run(capsys, *argv):
  """(exit code, stdout, stderr) of `musiclm argv`."""
  code = 0
  try:
    cli.main([str(a) for a in argv])
  except SystemExit as stop:
    code = stop.code
  captured = capsys.readouterr()
  return code, captured.out, captured.err
