"""For all tests, and for the programs that they start."""

import os

# Much of the suite is compiling: tiny programs run once need no tuning.
os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')
# XLA:CPU's older emitters compile such programs sooner; tests that start
# processes with devices of their own have the usual ones, and XLA_FLAGS= gives
# them to all.
os.environ.setdefault('XLA_FLAGS', '--xla_cpu_use_fusion_emitters=false')
# Commands keep programs in the user's cache folder: not those of tests.
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', '')
# Where a folder is given, small programs are worth keeping too: many tests
# compile the same ones.
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')
