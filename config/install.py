"""
The set-up: virtual environment, packages, messages. Run by `make`, with the standard library alone.

    python3 config/install.py [--dev]

Each finished step leaves a stamp of what it was made from, so a second set-up takes a moment and a half-finished one is
taken up where it stopped. The SDK is installed editable.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
UV = "uv==0.13.9"
SUPPORTED = ((3, 11), (3, 13))
NEEDED_BYTES = 1_500_000_000


class SetupError(RuntimeError):
    """The set-up cannot go on; one sentence for the person at the terminal."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Set up .venv")
    parser.add_argument("--dev", action="store_true", help="with the tools for tests and checks")
    options = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # compiled once is twice as quick to start
    try:
        set_up(dev=options.dev)
    except SetupError as error:
        print(f"\nmake: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print("\nmake: The disk is full; free some space and run the same command again.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nmake: Stopped; the same command goes on from here.", file=sys.stderr)
        return 130
    return 0


def set_up(*, dev: bool) -> None:
    """:raises SetupError: when something is missing, with what to do about it."""
    check_python()
    make_venv()
    install_packages(dev=dev)
    compile_messages()


def check_python() -> None:
    if not SUPPORTED[0] <= sys.version_info[:2] <= SUPPORTED[1]:
        have = ".".join(map(str, sys.version_info[:2]))
        raise SetupError(
            f"Python 3.11, 3.12 or 3.13 is needed and this is {have}; name another, as in: make PYTHON=python3.12 run"
        )


def make_venv() -> None:
    """Create the virtual environment, anew when it was made by another Python, in another place or not to its end."""
    identity = f"{sys.version_info[:2]} {Path(sys.base_prefix).resolve()} {ROOT}\n"
    stamp = VENV / ".made-by"
    if PYTHON.exists() and stamp.exists() and stamp.read_text() == identity:
        return
    if PYTHON.exists() and not stamp.exists() and works(PYTHON):
        return  # somebody made it by hand, for this Python
    with step("virtual environment"):
        if VENV.exists():
            need_space()
            shutil.rmtree(VENV)
        need_space()
        command = [sys.executable, "-m", "venv", "--without-pip", str(VENV)]
        run(command, missing="Python's module venv is missing; on Debian: apt install python3-venv")
        stamp.write_text(identity)


def works(python: Path) -> bool:
    command = [str(python), "-c", "import sys; print(sys.version_info[:2])"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode == 0 and done.stdout.strip() == str(tuple(sys.version_info[:2]))


def install_packages(*, dev: bool) -> None:
    """Install the lock, by uv, or by pip where uv cannot be had or finds no index."""
    lock = ROOT / ("requirements-dev.txt" if dev else "requirements.txt")
    wanted = digest(lock, ROOT / "sdk" / "pyproject.toml")
    stamp = VENV / (".packages-dev" if dev else ".packages")
    # The development packages contain the others.
    both = (stamp, VENV / ".packages-dev") if not dev else (stamp,)
    full = digest(ROOT / "requirements-dev.txt", ROOT / "sdk" / "pyproject.toml")
    if any(one.exists() and one.read_text() in (wanted, full) for one in both):
        return
    need_space()
    for old in (VENV / ".packages", VENV / ".packages-dev"):
        old.unlink(missing_ok=True)
    uv = install_uv()
    with step(f"packages ({sum(1 for line in lock.open() if '==' in line)} in {lock.name})"):
        sdk = ["--no-deps", "-e", str(ROOT / "sdk")]
        target = ["--python", str(PYTHON)]
        if uv is None or not (
            attempt([str(uv), "pip", "sync", "-q", "--compile-bytecode", *target, str(lock)])
            and attempt([str(uv), "pip", "install", "-q", *target, *sdk])
        ):
            pip = [sys.executable, "-m", "pip", *target, "install", "-q"]
            run([*pip, "--require-hashes", "-r", str(lock)], missing=PIP_MISSING)
            run([*pip, *sdk], missing=PIP_MISSING)
    stamp.write_text(wanted)


PIP_MISSING = "Packages cannot be installed: is pip there (on Debian: apt install python3-pip) and the index reachable?"


def install_uv() -> Path | None:
    """uv in a folder of its own inside the virtual environment (a sync would remove it); None when it cannot be had."""
    folder = VENV / "uv"
    uv = folder / "bin" / "uv"
    if not (uv.exists() and works_at_all(uv)):
        with step("uv"):
            pip = [sys.executable, "-m", "pip", "--python", str(PYTHON)]
            if not attempt([*pip, "--version"]):
                raise SetupError("pip is missing; on Debian: apt install python3-pip")
            attempt([*pip, "install", "-q", "--no-compile", "--upgrade", "--target", str(folder), UV])
    return uv if uv.exists() else None


def works_at_all(program: Path) -> bool:
    return subprocess.run([str(program), "--version"], capture_output=True).returncode == 0


def compile_messages() -> None:
    """Compile the message catalogues with Babel, each when its source has changed."""
    for source in sorted(ROOT.glob("locale/*/LC_MESSAGES/*.po")):
        target = source.with_suffix(".mo")
        if target.exists() and target.stat().st_mtime >= source.stat().st_mtime:
            continue
        scratch = target.with_suffix(f".{os.getpid()}")
        command = [str(PYTHON), "-m", "babel.messages.frontend", "compile", "-i", str(source), "-o", str(scratch)]
        with step(f"messages ({source.parent.parent.name}/{source.stem})"):
            run(command, missing=f"{source} does not compile")
            scratch.replace(target)


class step:
    """Say what is being done, and how long it took."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        self.started = time.monotonic()
        print(f"  {self.what} … ", end="", flush=True)

    def __exit__(self, kind: object, *_: object) -> None:
        print("failed" if kind else f"{time.monotonic() - self.started:.1f} s", flush=True)


def run(command: list[str], *, missing: str) -> None:
    """:raises SetupError: `missing`, with the command's last line, when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        explain(done.stderr, or_else=missing)


def attempt(command: list[str]) -> bool:
    """Whether the command succeeded. A full disk is said at once."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode and "No space left" in done.stderr:
        explain(done.stderr, or_else="")
    return done.returncode == 0


def explain(stderr: str, *, or_else: str) -> None:
    if "No space left" in stderr:
        raise OSError(errno.ENOSPC, "No space left on device")
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    raise SetupError(f"{or_else}\n      ({lines[-1] if lines else 'no message'})")


def need_space() -> None:
    """:raises SetupError: when the disk has less room than the packages take."""
    free = shutil.disk_usage(ROOT).free
    if free < NEEDED_BYTES:
        raise SetupError(
            f"The disk of {ROOT} has {free / 1e9:.1f} GB left and the set-up needs {NEEDED_BYTES / 1e9:.1f} GB; "
            "free some and run the same command again."
        )


def digest(*paths: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()



if __name__ == "__main__":
    sys.exit(main())
