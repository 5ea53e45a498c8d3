"""For all tests, and for the programs that they start."""

import os

# Two fifths of the suite is compiling: tiny programs run once need no tuning.
os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')
