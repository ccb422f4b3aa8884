"""
`make check`: everything that can be said about the code without running its tests.

Each check runs even when an earlier one failed; what a failed one printed is shown.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from config.instance import ROOT

BIN = Path(sys.executable).parent
PYTHON = sys.executable
PACKAGES = ["config", "core", "identity", "providers", "billing", "exchange", "metering_ingest", "scenarios"]
PRODUCTION = {
    "CIYUAN_ENV": "production",
    "SECRET_KEY": "only for the check: " + "0123456789abcdefghijklmnopqrstuvwxyz" * 2,
    "ALLOWED_HOSTS": "exchange.example",
    "DATABASE_URL": "postgresql://ciyuan@127.0.0.1:1/ciyuan",
    "REDIS_URL": "redis://127.0.0.1:1",
    "CIYUAN_METRICS_TOKEN": "only-for-the-check",
}

CHECKS: list[tuple[str, list[str], dict[str, str]]] = [
    ("ruff", [str(BIN / "ruff"), "check", "."], {}),
    # Without its cache: the Django plugin's reverse relations go stale in it, and then it errs.
    ("mypy (strict)", [PYTHON, "-m", "mypy", "--cache-dir", os.devnull, *PACKAGES, "sdk/ciyuan"], {}),
    ("layers", [str(BIN / "lint-imports")], {"PYTHONPATH": f"{ROOT}:{ROOT / 'sdk'}"}),
    (
        "migrations",
        [PYTHON, "-W", "ignore", "manage.py", "makemigrations", "--check", "--dry-run"],
        {"DATABASE_URL": PRODUCTION["DATABASE_URL"]},
    ),
    (
        "API schema",
        [PYTHON, "manage.py", "spectacular", "--fail-on-warn", "--validate", "--file", os.devnull],
        {},
    ),
    ("deployment settings", [PYTHON, "manage.py", "check", "--deploy", "--fail-level", "WARNING"], PRODUCTION),
]


def main() -> int:
    failed = []
    for name, command, environment in CHECKS:
        started = time.monotonic()
        print(f"  {name} … ", end="", flush=True)
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **environment},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        print(f"{'FAILED' if done.returncode else 'ok'}, {time.monotonic() - started:.1f} s", flush=True)
        if done.returncode:
            failed.append(name)
            print(done.stdout.rstrip(), flush=True)
    print(f"check: failed: {', '.join(failed)}" if failed else "check: clean")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
