"""
A stopped cluster with the migrated database, kept and copied, so that a fresh database costs 0.2 s and no migration.

Keyed by what the migrations say. Tests, process tests and the replayed day start from such a copy.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg

from config import services

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / "var" / "cache"
DATABASE = "ciyuan"
KEEP = 3
WITHOUT_WAITING_FOR_THE_DISK = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


def migrated_cluster() -> Path:
    """Return the data folder of a stopped cluster whose database `ciyuan` is migrated; made on first need."""
    var = CACHE / f"cluster-{migrations_key()}"
    postgres, _ = services.embedded(var, **WITHOUT_WAITING_FOR_THE_DISK)
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ((var / "ready").exists() and postgres.data.exists()):
            _forget_old_ones()
            postgres.stop()
            postgres.home.remove()
            shutil.rmtree(var, ignore_errors=True)
            postgres.initialise()
            postgres.start()
            try:
                ensure_database(postgres.url("postgres"), DATABASE)
                migrate(postgres.url(DATABASE), var)
            finally:
                postgres.stop()
            (var / "ready").touch()
    return postgres.data


def ensure_database(admin_url: str, name: str) -> None:
    """Create the database if it is not there."""
    with psycopg.connect(admin_url, autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())


def migrate(database_url: str, var: Path) -> None:
    """:raises services.ServiceError: with the migration's own message."""
    environment = {
        **os.environ,
        "CIYUAN_ENV": "test",
        "CIYUAN_VAR": str(var),
        "DATABASE_URL": database_url,
        "REDIS_URL": "redis://127.0.0.1:1",
        "DJANGO_SETTINGS_MODULE": "config.settings",
    }
    command = [sys.executable, "manage.py", "migrate", "-v0", "--no-input"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise services.ServiceError(f"The migrations failed:\n{done.stderr}")


def migrations_key(*more: Path) -> str:
    """A name for the state that all migrations lead to, and for the content of `more` files."""
    digest = hashlib.blake2b(digest_size=8)
    files = sorted([*ROOT.glob("*/migrations/*.py"), ROOT / "core" / "insert_only.py"])
    for path in [*files, *more, ROOT / "requirements.txt", ROOT / "config" / "settings.py"]:
        digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()


def _forget_old_ones() -> None:
    clusters = sorted(CACHE.glob("cluster-*"), key=lambda path: path.stat().st_mtime)
    for var in clusters[: -(KEEP - 1)]:
        services.Home(var).remove()
        shutil.rmtree(var, ignore_errors=True)
