"""The project: settings, addresses, ASGI, Celery and the services it runs on."""

import sys
from importlib.util import find_spec
from pathlib import Path

# The server computes standard tokens with the SDK's published code, from this checkout unless it is installed.
if find_spec("ciyuan") is None:
    sys.path.append(str(Path(__file__).resolve().parent.parent / "sdk"))
