"""
A database for one benchmark: a fresh, migrated Postgres with the product's durable settings, thrown away at the end.

Import it before any Django model: it starts the server, points DATABASE_URL at it and sets Django up.
"""

import atexit
import os
import shutil
import signal
import tempfile
from pathlib import Path

from config import services


def start(*, with_valkey: bool = False) -> None:
    """
    Start, migrate and set Django up; everything is removed when the process ends.

    :param with_valkey: start a Valkey too, for what sends tasks or live messages.
    """
    var = Path(tempfile.mkdtemp(prefix="ciyuan-bench-"))
    postgres, valkey = services.embedded(var, shared_buffers="1GB", max_wal_size="8GB")
    postgres.initialise()
    postgres.start()
    if with_valkey:
        valkey.start()

    def remove() -> None:
        valkey.stop()
        postgres.stop(how=signal.SIGQUIT)
        postgres.home.remove()
        shutil.rmtree(var, ignore_errors=True)

    atexit.register(remove)
    os.environ.update(
        CIYUAN_ENV="test", CIYUAN_VAR=str(var), DATABASE_URL=postgres.url("postgres"),
        DJANGO_SETTINGS_MODULE="config.settings", REDIS_URL=valkey.url() if with_valkey else "redis://127.0.0.1:1")
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0, interactive=False)
