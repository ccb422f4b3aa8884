"""
The environment of the peers: packages that benchmarks compare with, from a lock of their own, never in the product's.

Made once in `var/peers-…` and named after the lock's content. A package that cannot be installed here (one of them
compiles C++) is left out, and the benchmark says so.
"""

import hashlib
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

LOCK = Path(__file__).with_name("requirements-peers.txt")
CHDB = Path(__file__).with_name("requirements-chdb.txt")
VAR = Path(__file__).parent.parent / "var"


def peers_python(lock: Path = LOCK) -> Path:
    """Return the interpreter that has a lock's peers, making its environment first if need be (half a minute)."""
    name = hashlib.blake2b(lock.read_bytes() + sys.version.encode(), digest_size=6).hexdigest()
    folder = VAR / f"peers-{name}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        venv.create(folder, clear=True, with_pip=True)
        for requirement in _requirements(lock):
            _install(python, requirement)
        (folder / "complete").touch()
    return python


def _requirements(lock: Path) -> list[str]:
    """Return the lock's entries, each with its hashes."""
    lines = [line for line in lock.read_text().splitlines() if not line.lstrip().startswith("#")]
    return re.findall(r"^\S+==.*?(?=^\S+==|\Z)", "\n".join(lines), flags=re.MULTILINE | re.DOTALL)


def _install(python: Path, requirement: str) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(requirement)
        file.flush()
        command = [python, "-m", "pip", "install", "-q", "--no-deps", "--require-hashes", "-r", file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"not installed: {requirement.split()[0]}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
