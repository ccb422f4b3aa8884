"""
Keeps so many Celery matching workers alive, each a process of its own that takes all the queues given:

    python -m tests.exchange.worker_nursery QUEUES COUNT

They are forked from this one, which has everything imported, so that one that was killed is replaced within a second.
"""

import os
import sys
import time

import django

from config.instance import QUIET


def main(queues: str, count: int) -> None:
    from config.celery import app

    django.setup()
    app.loader.import_default_modules()
    app.finalize()
    alive = 0
    while True:
        while alive < count:
            if not os.fork():
                app.worker_main(["worker", "-Q", queues, "-P", "solo", "-n", f"fighter{os.getpid()}@%h", *QUIET])
                os._exit(0)
            alive += 1
        os.wait()
        alive -= 1
        time.sleep(0.05)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
