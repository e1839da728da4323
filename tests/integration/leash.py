"""Become a command that dies together with the process that started it: `python leash.py PARENT_PID COMMAND...`.

Whatever ends a test run (an exception, Ctrl-C, `kill -9`), its children must not stay behind and hold ports. The kernel
promises that: PR_SET_PDEATHSIG survives the exec below and reaches a stopped process too. A program of its own and not
a `preexec_fn`, since that would run Python code in a fork of a process with threads, which may deadlock.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    parent, command = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked: no signal would ever come
        sys.exit(1)
    os.execvp(command[0], command)
