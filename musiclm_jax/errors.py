"""The one exception that the command line turns into a line and exit code 2."""


class UserError(ValueError):
  """A mistake in what the user gave: what came, what was expected, what to do.

  The message is one line. `musiclm` prints it after `musiclm: error:` and exits
  with code 2; anything else that escapes is a bug and keeps its traceback.
  """


def choice(name, value, known):
  """The error for an unknown name: it lists the known ones."""
  return UserError(
      f'unknown {name} {value!r}; known: {", ".join(sorted(known))}.')
