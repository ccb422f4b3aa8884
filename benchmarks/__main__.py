"""
`make bench`: every benchmark, one after the other (side by side they would measure each other).

Each one's figures are printed as they come. At the end stands a table of all figures that have a target, met or missed;
build/benchmarks.json has them all, and the last line is the same as one JSON object. FULL=1 in the environment adds
what takes long. A benchmark that fails or takes longer than its share is interrupted, so that it ends what it started;
it is named, and the others go on. Exits 1 then.

    python -m benchmarks [NAME …]      # those alone
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from benchmarks.targets import summary

FOLDER = Path(__file__).resolve().parent
PARTS = {"__main__", "latency"}
LONGEST_SECONDS = 3_600 if os.environ.get("FULL") == "1" else 480


def main(wanted: list[str]) -> int:
    if unknown := set(wanted) - set(benchmarks()):
        print(f"bench: no benchmark {', '.join(sorted(unknown))}; there are {', '.join(benchmarks())}", file=sys.stderr)
        return 2
    figures: dict[str, object] = {}
    seconds: dict[str, float] = {}
    failed = []
    for name in [name for name in benchmarks() if not wanted or name in wanted]:
        print(f"== {name}", flush=True)
        started = time.monotonic()
        lines, status = _run(name)
        try:
            figures[name] = json.loads(lines[-1])
        except (IndexError, ValueError):
            figures[name], status = {}, status or 1
        if status:
            failed.append(name)
        seconds[name] = time.monotonic() - started
        print(f"   {'FAILED' if status else 'done'} after {seconds[name]:.0f} s\n", flush=True)
    target = FOLDER.parent / "build" / "benchmarks.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n")
    print(summary(figures, seconds))
    if failed:
        print(f"bench: failed: {', '.join(failed)}", file=sys.stderr)
    print(json.dumps(figures, ensure_ascii=False))
    return 1 if failed else 0


def benchmarks() -> list[str]:
    """Return the names of the modules that can be run by themselves, but for those that are part of another."""
    modules = [path for path in sorted(FOLDER.glob("*.py")) if path.stem not in PARTS]
    return [path.stem for path in modules if '\nif __name__ == "__main__":' in path.read_text()]


def _run(name: str) -> tuple[list[str], int]:
    """Run one benchmark, showing what it prints as it comes; its lines and its exit status."""
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    with subprocess.Popen(command, cwd=FOLDER.parent, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        limit = threading.Timer(LONGEST_SECONDS, process.send_signal, [signal.SIGINT])
        limit.start()
        lines = []
        for line in process.stdout:
            print(f"   {line}", end="", flush=True)
            lines.append(line.strip())
        limit.cancel()
    return [line for line in lines if line], process.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
