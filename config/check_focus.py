"""
`python -m config.check_focus FILE…`: validate FOCUS 1.2 files with the FinOps Foundation's `focus-validator`.

The validator gets an environment of its own in `var/` (Python 3.12, 600 MB, made once), named after its lock. It exits
with 0 even where rules fail, so its lines are read. Its rules on InvoiceId contradict each other for a whole file (004:
null where there is no invoice, 005: not null where there is one, neither looking at the invoice), so one of the two
always fails; every other failure fails the check.
"""

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

#: What our data can say; by them the validator knows which conditional columns apply.
CRITERIA = (
    "ACCOUNT_NAMING_SUPPORTED", "BILLING_BASED_ON_PROVISIONED_RESOURCES_SUPPORTED",
    "MULTIPLE_BILLING_ACCOUNT_TYPES_SUPPORTED", "MULTIPLE_PRICING_CATEGORIES_SUPPORTED",
    "NEGOTIATED_PRICING_SUPPORTED", "PUBLIC_PRICE_LIST_SUPPORTED", "REGION_SUPPORTED",
    "RESOURCE_TYPE_ASSIGNMENT_SUPPORTED", "TAGGING_SUPPORTED", "UNIT_PRICING_SUPPORTED",
    "USAGE_MEASUREMENT_SUPPORTED",
)  # fmt: skip
ROOT = Path(__file__).resolve().parent.parent
LOCK = Path(__file__).with_name("requirements-focus.txt")
UV = ROOT / ".venv" / "uv" / "bin" / "uv"
CONTRADICTION = {"CostAndUsage-InvoiceId-C-004-C", "InvoiceId-C-004-C", "InvoiceId-C-005-C"}
_FAILED = re.compile(r"^\s*(?:❌\s*)?(?P<rule>[\w-]+-[CDM]-\d+-\w+)\s*:?\s*(?P<status>FAIL\w*|ERROR\w*)", re.I)


class NoPython(RuntimeError):
    """There is no Python 3.12 for the validator."""


def python312() -> str:
    """
    Return a Python 3.12 that starts.

    :raises NoPython: when none is found.
    """
    candidates = [
        sys.executable,
        *(found for found in [shutil.which("python3.12")] if found),
        *map(str, sorted(Path.home().glob(".pyenv/versions/3.12*/bin/python"), reverse=True)),
    ]
    for candidate in candidates:
        asked = [candidate, "-c", "import sys; print(*sys.version_info[:2], sep='.')"]
        answer = subprocess.run(asked, capture_output=True, text=True, check=False)
        if answer.returncode == 0 and answer.stdout.strip() == "3.12":
            return candidate
    raise NoPython("The FOCUS validator needs Python 3.12; on Debian: apt install python3.12 python3.12-venv.")


def validator() -> Path:
    """Return the folder of the validator's environment, made first if need be."""
    folder = ROOT / "var" / f"focus-{hashlib.blake2b(LOCK.read_bytes(), digest_size=6).hexdigest()}"
    if not (folder / "complete").exists():
        print("setting up the FOCUS validator (600 MB, once) …", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([python312(), "-m", "venv", folder], check=True)
        python = folder / "bin" / "python"
        if UV.exists():
            install: list[str | Path] = [UV, "pip", "install", "-q", "--python", python, "--require-hashes", "-r", LOCK]
        else:
            install = [python, "-m", "pip", "install", "-q", "--require-hashes", "-r", LOCK]
        subprocess.run(install, check=True)
        (folder / "complete").touch()
    return folder


def failures(file: Path) -> tuple[list[str], str]:
    """Return the rules that a file fails beyond the one contradiction, and everything that the validator printed."""
    environment = validator()
    package = next(environment.glob("lib/python3.12/site-packages/focus_validator"))
    with tempfile.TemporaryDirectory(prefix="ciyuan-focus-") as folder:
        # It looks for its rules below the working folder, and writes there.
        shutil.copytree(package, Path(folder, "focus_validator"))
        command: list[str | Path] = [
            environment / "bin" / "focus-validator", "--data-file", file.resolve(), "--validate-version", "1.2",
            "--block-download", "--applicability-criteria", ",".join(CRITERIA),
        ]  # fmt: skip
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    text = done.stdout + done.stderr
    if done.returncode:
        return [f"the validator stopped with status {done.returncode}"], text
    return read_findings(text), text


def read_findings(text: str) -> list[str]:
    """
    Return the failed rules in what the validator printed, without the one contradiction.

    A text that names no checked rule at all is a failure too: then nothing was validated.
    """
    if not re.search(r"pass", text, re.I):
        return ["the validator checked nothing"]
    failed = [found["rule"] for line in text.splitlines() if (found := _FAILED.match(line))]
    contradicted = [rule for rule in failed if rule in CONTRADICTION]
    rest = [rule for rule in failed if rule not in CONTRADICTION]
    return rest if len(contradicted) <= 1 else [*contradicted, *rest]


def main(arguments: Sequence[str]) -> int:
    if not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    status = 0
    for name in arguments:
        found, text = failures(Path(name))
        if found:
            print(text)
            print(f"{name}: fails {', '.join(found)}", file=sys.stderr)
            status = 1
        else:
            print(f"{name}: valid FOCUS 1.2")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
