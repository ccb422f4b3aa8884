"""SDK and command line against the real application, in the process and the transaction of the test."""

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from ciyuan import Client, cli
from ciyuan.cli import main
from django.core.handlers.wsgi import WSGIHandler

from tests.given import Api


def client_of(api: Api) -> Client:
    transport = httpx.WSGITransport(app=WSGIHandler())  # type: ignore[arg-type]
    headers = {"Authorization": f"Bearer {api.secret}"}
    return Client(api.secret, http=httpx.Client(transport=transport, base_url="http://localhost", headers=headers))


def commands(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Callable[..., tuple[int, str, str]]:
    """Return what runs a command as an organization: `run(client, "budget", "list")` → (exit code, stdout, stderr)."""

    def run(client: Client, *arguments: str) -> tuple[int, str, str]:
        _open(monkeypatch, client)
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


def _open(monkeypatch: pytest.MonkeyPatch, client: Client) -> None:
    names = [found.name for found in pkgutil.iter_modules(cli.__path__) if not found.name.startswith("__")]
    # All are imported before the first is changed: one imported later would take the changed function for its own.
    for module in [importlib.import_module(f"{cli.__name__}.{name}") for name in names]:
        if hasattr(module, "open_client"):
            monkeypatch.setattr(module, "open_client", lambda: client)
