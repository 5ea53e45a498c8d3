"""`python -m musiclm_jax` is `musiclm`."""

from musiclm_jax.commands import cli

if __name__ == '__main__':
  cli.main()
