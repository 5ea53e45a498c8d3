"""Run by test_two_processes.py, once for each process.

argv: MODEL_DIR, steps, sleep of the source, 'toy' or 'stage', mesh as JSON. Who
takes part is in the environment.
"""

import json
import sys

import runs

runs.train(sys.argv[4], sys.argv[1], int(sys.argv[2]), float(sys.argv[3]),
           json.loads(sys.argv[5]))
