"""What a command took, measured by a parent that is small.

``python tests/benchmarks/speed/usage.py FILE COMMAND …`` runs a command and writes its processor time and
memory into FILE. Linux counts what its parent held when it was started as a process's own peak: after a
check of a million rows that would be the benchmark's memory, and not the command's.
"""

import json
import os
import sys
from pathlib import Path


def main(file: str, command: list[str]) -> int:
    child = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(child, 0)
    told = {"cpu": usage.ru_utime + usage.ru_stime, "maxrss": usage.ru_maxrss}
    Path(file).write_text(json.dumps(told), encoding="utf-8")
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
