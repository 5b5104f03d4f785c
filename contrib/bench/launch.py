"""Runs one command and reports what it used: ``launch.py DESCRIPTOR COMMAND...``

A process begins with the peak memory of the one that started it, so this one is small. The report
goes to an open file descriptor as five numbers: exit status, wall, user and system seconds, and
the peak memory in KiB.
"""

from __future__ import annotations

import os
import sys
import time

if __name__ == "__main__":
    descriptor, command = int(sys.argv[1]), sys.argv[2:]
    os.set_inheritable(descriptor, False)
    begun = time.perf_counter()
    process = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(process, 0)
    wall = time.perf_counter() - begun
    code = os.waitstatus_to_exitcode(status)
    report = f"{code} {wall} {usage.ru_utime} {usage.ru_stime} {usage.ru_maxrss}"
    os.write(descriptor, report.encode())
