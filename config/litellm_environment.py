"""
LiteLLM as people run it, in an environment of its own in `var/` (230 MB, made once, named after its lock): its package
pins what ours pins otherwise. `make check-litellm` proves with it that its unmodified logger reports usage here.
"""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = Path(__file__).with_name("requirements-litellm.txt")
UV = ROOT / ".venv" / "uv" / "bin" / "uv"


def litellm_python() -> Path:
    """Return the Python that has LiteLLM, installed first if need be."""
    folder = ROOT / "var" / f"litellm-{hashlib.blake2b(LOCK.read_bytes(), digest_size=6).hexdigest()}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        print("setting up LiteLLM (230 MB, once) …", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", *(["--without-pip"] if UV.exists() else []), folder], check=True)
        install: list[str | Path] = [UV, "pip", "install", "-q", "--python", python] if UV.exists() else [
            python, "-m", "pip", "install", "-q"]  # fmt: skip
        subprocess.run([*install, "--require-hashes", "-r", LOCK], check=True)
        (folder / "complete").touch()
    return python
