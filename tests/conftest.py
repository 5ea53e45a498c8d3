"""For all tests, and for the programs that they start."""

import os

# Two fifths of the suite is compiling: tiny programs run once need no tuning.
os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')
# Commands keep programs in the user's cache folder: not those of tests.
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', '')
# Where a folder is given, small programs are worth keeping too: many tests
# compile the same ones.
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')
