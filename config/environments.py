"""
What others wrote and ours is tried against, each in an environment of its own in `var/`, made once and named after its
lock.

LiteLLM as people run it (230 MB): its package pins what ours pins otherwise. `make check-litellm` proves with it that
its unmodified logger reports usage here, and that it takes the gateway as an upstream; and, in a smaller environment,
that OpenTelemetry's instrumentation of the `openai` client sees the gateway's answers as it sees OpenAI's.

llama.cpp, a real engine (170 MB), on a random model made on the spot: `make check-engine` holds what guard and gateway
meter against what it counts.
"""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = ROOT / ".venv" / "uv" / "bin" / "uv"


def litellm_python() -> Path:
    """Return the Python that has LiteLLM, installed first if need be."""
    return _python_of("litellm", "LiteLLM (230 MB, once)")


def otel_python() -> Path:
    """Return the Python that has `openai` and its OpenTelemetry instrumentation, installed first if need be."""
    return _python_of("otel-openai", "OpenTelemetry's instrumentation (60 MB, once)")


def engine_python() -> Path:
    """Return the Python that has llama.cpp's server and writes its models, installed first if need be."""
    return _python_of("engine", "llama.cpp (170 MB, once)")


def _python_of(name: str, what: str) -> Path:
    lock = Path(__file__).with_name(f"requirements-{name}.txt")
    folder = ROOT / "var" / f"{name}-{hashlib.blake2b(lock.read_bytes(), digest_size=6).hexdigest()}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        print(f"setting up {what} …", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", *(["--without-pip"] if UV.exists() else []), folder], check=True)
        install: list[str | Path] = [UV, "pip", "install", "-q", "--python", python] if UV.exists() else [
            python, "-m", "pip", "install", "-q"]  # fmt: skip
        subprocess.run([*install, "--require-hashes", "-r", lock], check=True)
        (folder / "complete").touch()
    return python
