"""Settings from the environment: typed, and failing loudly at start rather than later."""

from __future__ import annotations

import os
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

TRUE = {"1", "true", "yes", "on"}
FALSE = {"0", "false", "no", "off", ""}
Network = IPv4Network | IPv6Network


def text(name: str, default: str | None = None) -> str:
    """:raises ImproperlyConfigured: when the variable is unset and has no default."""
    value = os.environ.get(name, default)
    if value is None:
        raise ImproperlyConfigured(f"Set {name} in the environment.")
    return value


def integer(name: str, default: int, *, least: int = 0) -> int:
    """:raises ImproperlyConfigured: when it is not a whole number of at least `least`."""
    raw = os.environ.get(name, str(default))
    try:
        value = int(raw)
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a whole number, not {raw!r}.") from None
    if value < least:
        raise ImproperlyConfigured(f"{name} must be at least {least}, not {value}.")
    return value


def flag(name: str, default: bool) -> bool:
    """:raises ImproperlyConfigured: when it is neither a yes nor a no."""
    raw = os.environ.get(name, "1" if default else "0").strip().lower()
    if raw not in TRUE | FALSE:
        raise ImproperlyConfigured(f"{name} must be 1 or 0, not {raw!r}.")
    return raw in TRUE


def words(name: str, default: str = "") -> list[str]:
    """A list separated by commas."""
    return [word.strip() for word in os.environ.get(name, default).split(",") if word.strip()]


def networks(name: str, default: str = "") -> list[Network]:
    """
    IP networks separated by commas, such as "127.0.0.0/8, 10.1.0.0/16".

    :raises ImproperlyConfigured: when one of them is not a network.
    """
    try:
        return [ip_network(word) for word in words(name, default)]
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}: {error}.") from None


def choice(name: str, default: str, allowed: tuple[str, ...]) -> str:
    """:raises ImproperlyConfigured: when it is not one of `allowed`."""
    value = os.environ.get(name, default)
    if value not in allowed:
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(allowed)}, not {value!r}.")
    return value


def folder(name: str, default: Path) -> Path:
    return Path(os.environ.get(name) or default).expanduser().resolve()
