"""Runs a command and prints as JSON what it took (time, CPU time of it and its children, memory) and printed."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time

started = time.monotonic()
done = subprocess.run(sys.argv[1:], capture_output=True, text=True, check=False)
seconds = time.monotonic() - started
used = resource.getrusage(resource.RUSAGE_CHILDREN)
answer = {
    "seconds": seconds,
    "cpuSeconds": used.ru_utime + used.ru_stime,
    "peakMiB": used.ru_maxrss / 1024,
    "status": done.returncode,
    "stdout": done.stdout,
    "stderr": done.stderr[-4000:],
}
json.dump(answer, sys.stdout)
