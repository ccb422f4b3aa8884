"""
`make bench`: every benchmark, one after the other (side by side they would measure each other).

Each one's figures are printed as they come; all of them stand in build/benchmarks.json at the end, and the last line is
the same as one JSON object. FULL=1 in the environment adds what takes long. Exits 1 when a benchmark fails.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
HELPERS = {"__init__", "__main__", "harness"}


def main() -> int:
    figures: dict[str, object] = {}
    failed = []
    for path in sorted(FOLDER.glob("*.py")):
        if path.stem in HELPERS:
            continue
        print(f"== {path.stem}", flush=True)
        started = time.monotonic()
        lines, status = _run(path.stem)
        try:
            figures[path.stem] = json.loads(lines[-1])
        except (IndexError, ValueError):
            status = status or 1
        if status:
            failed.append(path.stem)
        print(f"   {'FAILED' if status else 'done'} after {time.monotonic() - started:.0f} s\n", flush=True)
    target = FOLDER.parent / "build" / "benchmarks.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n")
    if failed:
        print(f"bench: failed: {', '.join(failed)}", file=sys.stderr)
    print(json.dumps(figures, ensure_ascii=False))
    return 1 if failed else 0


def _run(name: str) -> tuple[list[str], int]:
    """Run one benchmark, showing what it prints as it comes; its lines and its exit status."""
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    with subprocess.Popen(command, cwd=FOLDER.parent, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            print(f"   {line}", end="", flush=True)
            lines.append(line.strip())
    return [line for line in lines if line], process.returncode


if __name__ == "__main__":
    sys.exit(main())
