"""Run by test_two_processes.py, once for each process.

argv: folder of the tests, MODEL_DIR, steps, sleep of the source, 'toy' or
'stage', mesh as JSON. Who takes part is in the environment.
"""

import json
import sys

sys.path[:0] = [sys.argv[1] + '/training', sys.argv[1] + '/stages']

# pylint: disable=g-import-not-at-top
import runs

runs.train(sys.argv[5], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]),
           json.loads(sys.argv[6]))
