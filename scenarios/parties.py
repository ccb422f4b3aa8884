"""
Setting up providers and buyers on an instance, through the operator's key, so that repeating it changes nothing.

Secrets are shown once by the exchange; a `Keyring` keeps them in a private file, so that a second start finds them.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ciyuan import Client


@dataclass(frozen=True, slots=True)
class Party:
    """An organization that takes part, with its key."""

    organization: int
    name: str
    client: Client


@dataclass(frozen=True, slots=True)
class Supply:
    """A provider's deployment, its meter, and the client that sends the meter's events."""

    party: Party
    deployment: int
    source: str
    meter: Client


class Keyring:
    """Secrets by name, in a file that only its owner reads; written before the secret is used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._secrets: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}

    def get_or_make(self, name: str, make: Callable[[], str]) -> str:
        """Return the secret kept under `name`; make and keep it when there is none."""
        if name not in self._secrets:
            self._secrets[name] = make()
            self._path.parent.mkdir(parents=True, exist_ok=True)
            scratch = self._path.with_suffix(".new")
            with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                json.dump(self._secrets, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(self._path)
        return self._secrets[name]


class Setting:
    """
    An instance seen from outside: makes parties, deployments and meters, each once per `name`.

    :param name: prefix of all idempotency keys; another name is another cast.
    """

    def __init__(self, *, url: str, operator_key: str, name: str, keyring: Keyring) -> None:
        self.url = url
        self.name = name
        self.operator = Client(operator_key, url)
        self.keyring = keyring

    def party(
        self, kind: str, name: str, name_zh: str, *, deposit: str, allows_overage: str = "0", control_group: str = ""
    ) -> Party:
        """Return an organization with money on account and a key of its own."""
        key = f"{self.name}:{name}"
        organization = self.operator.organizations.create(
            kind=kind,  # type: ignore[arg-type]
            name=name,
            name_zh=name_zh,
            control_group=control_group,
            allows_overage=allows_overage,
            idempotency_key=f"{key}:organization",
        )
        secret = self.keyring.get_or_make(key, lambda: self._new_key(organization.id, name))
        self.operator.deposits.record(
            organization=organization.id,
            amount=deposit,
            reference=f"{self.name} {name}",
            idempotency_key=f"{key}:deposit",
        )
        return Party(organization.id, name, Client(secret, self.url))

    def _new_key(self, organization: int, name: str) -> str:
        scopes = ["trade", "billing", "read"]
        new = self.operator.keys.create(name=f"{name} program", scopes=scopes, organization=organization)
        assert new.secret is not None
        return new.secret

    def supply(
        self,
        party: Party,
        *,
        grade: str,
        accelerator: str,
        count: int,
        engine: str,
        precision: str,
        region: str,
        rated_tokens_per_minute: int,
        label: str = "main",
        endpoint: str = "",
    ) -> Supply:
        """Return a provider's deployment for `grade` with its meter; without an endpoint it has one of example."""
        key = f"{self.name}:{party.name}:{grade}:{label}"
        slug = party.name.lower().replace(" ", "-")
        deployment = party.client.deployments.register(
            name=f"{party.name} {label}",
            grade=grade,
            accelerator=accelerator,
            accelerator_count=count,
            engine=engine,
            precision=precision,
            region=region,
            endpoint=endpoint or f"https://{slug}.example/v1",
            rated_tokens_per_minute=rated_tokens_per_minute,
            idempotency_key=f"{key}:deployment",
        )
        source = f"{slug}/{grade}/{label}"

        def register() -> str:
            made = party.client.meters.register(name=f"{slug} {label}", role="provider", deployment=deployment.id)
            assert made.secret is not None
            return made.secret

        secret = self.keyring.get_or_make(f"{key}:meter", register)
        return Supply(party, deployment.id, source, Client(secret, self.url))

    def buyer_meter(self, party: Party) -> str:
        """Return the key of a buyer's own meter."""

        def register() -> str:
            made = party.client.meters.register(name="gateway", role="buyer")
            assert made.secret is not None
            return made.secret

        return self.keyring.get_or_make(f"{self.name}:{party.name}:buyer-meter", register)

    def alias(self, supply: Supply, *, subject: str, buyer: Party) -> None:
        """Let the provider call a buyer by a name of its own in its events."""
        supply.party.client.meters.alias(
            subject=subject,
            buyer=buyer.organization,
            idempotency_key=f"{self.name}:{supply.party.name}:alias:{subject}",
        )
