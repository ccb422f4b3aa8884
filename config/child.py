"""
Become one of an instance's processes: note pid and start time, take on the right user, then exec the command.

    python -P config/child.py RECORDS NAME [--uid N --gid N] [--pause] -- COMMAND ...

The note (RECORDS/NAME.json) lets the next start find what a killed one left behind, and tells it from a stranger that
has got the same pid since. Exec keeps pid and start time, so the note is true of the command. With --pause a process
that has been started before waits a second first, so that one that dies at once does not spin; and what its predecessor
had started itself (a web server's workers outlive it, and hold its port) is ended first.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

import psutil

from config import leftovers

PAUSE_SECONDS = 1.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("records", type=Path)
    parser.add_argument("name")
    parser.add_argument("--uid", type=int)
    parser.add_argument("--gid", type=int)
    parser.add_argument("--pause", action="store_true")
    end = sys.argv.index("--")
    options = parser.parse_args(sys.argv[1:end])
    command = sys.argv[end + 1 :]

    record = options.records / f"{options.name}.json"
    predecessor = [one for one in leftovers.read(options.records) if one.name == options.name]
    scratch = record.with_suffix(f".{os.getpid()}")
    scratch.write_text(json.dumps({"pid": os.getpid(), "started": psutil.Process().create_time(), "command": command}))
    scratch.replace(record)
    if options.pause and predecessor:
        leftovers.end(predecessor, seconds=5)
        print(f"{options.name} is starting again in {PAUSE_SECONDS:.0f} s", file=sys.stderr, flush=True)
        time.sleep(PAUSE_SECONDS)
    if options.uid is not None:
        os.setgroups([])
        os.setgid(options.gid)
        os.setuid(options.uid)
        os.chdir("/")
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
