"""Run a module in a child process that ends when this process does, however that ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

#: The child reads a pipe whose other end only this process holds: its end is the end of this process.
_CHILD = """
import sys
sys.path[:] = [folder for folder in sys.path if folder]  # nothing of the working folder is imported
import os, runpy, threading
def watch():
    while os.read(0, 1):
        pass
    os._exit(1)
threading.Thread(target=watch, daemon=True).start()
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def run(module: str, arguments: Sequence[str], lock: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run a Python module in a child process, as ``python -m`` does, and wait for it.

    The children of a killed process keep running; this child ends itself when the pipe that it reads is
    closed, on every system.

    Args:
        module: The module's name.
        arguments: The module's arguments.
        lock: A descriptor that the child keeps open while it runs.

    Returns:
        The exit status and the output.

    Example:
        >>> run("json.tool", ["--help"]).returncode
        0
    """
    ours = () if lock is None else (lock,)
    reads, writes = os.pipe()
    try:
        return subprocess.run(
            [sys.executable, "-c", _CHILD, module, *arguments],
            stdin=reads,
            capture_output=True,
            text=True,
            check=False,
            pass_fds=ours,
        )
    finally:
        os.close(reads)
        os.close(writes)
