"""From a corpus to a trained stage, by the commands: some minutes on two cores.

The stage is a tiny one and makes no music; `semantic_demo` in its place is the size
that ships, and `semantic_base` the paper's.
"""

from musiclm_jax import bundle
from musiclm_jax.commands import cli

RUN = ["--gin.MODEL_DIR='runs/semantic'", "--gin.CACHE_DIR='cache'"]

if __name__ == '__main__':  # making a corpus starts processes, which read this file
  cli.main(['data', 'folk_gm', '--hours', '0.05', '--out', 'corpus'])
  cli.main(['precompute', '--bundle', str(bundle.shipped()), '--corpus', 'corpus',
            '--cache', 'cache'])
  cli.main(['train', 'semantic_tiny', *RUN])
  cli.main(['export', 'semantic_tiny', *RUN, '--out', 'bundle/semantic'])
  cli.main(['inspect', 'bundle', 'bundle'])
