"""`make clean`: stop what still runs and delete data and build products. Standard library alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILT = ("build", "staticfiles", "screenshots", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis")
ROOT_HOME = Path("/var/lib/ciyuan")


def main() -> int:
    var = ROOT / "var"
    python = ROOT / ".venv" / "bin" / "python"
    if var.exists() and python.exists():
        # The notes of running processes can be read with psutil only.
        stop = (
            "from pathlib import Path; from config import leftovers\n"
            "for folder in Path('var').rglob('run'): print(*leftovers.end(leftovers.read(folder)))"
        )
        subprocess.run([str(python), "-c", stop], cwd=ROOT, stdout=subprocess.DEVNULL)
    for pointer in var.rglob("services.path") if var.exists() else ():
        for folder in map(Path, pointer.read_text().splitlines()):
            # Folders outside var/ are the product's own by their names alone.
            if folder.parent == ROOT_HOME or folder.name.startswith("ciyuan-"):
                shutil.rmtree(folder, ignore_errors=True)
    for name in ("var", *BUILT):
        shutil.rmtree(ROOT / name, ignore_errors=True)
    for path in [*ROOT.glob("locale/*/LC_MESSAGES/*.mo")]:
        path.unlink()
    print("Clean.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
