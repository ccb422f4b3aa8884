"""What an empty exchange needs before anyone can use it; safe to repeat."""

from __future__ import annotations

import json
import os
import secrets
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, call_command, get_commands
from django.db import transaction

from core import clock
from identity.actions.keys import create_key
from identity.actions.organizations import add_member, create_organization
from identity.models import ApiKey, Organization, User

OPERATOR_SCOPES = ["trade", "billing", "read", "operate"]
KEY_NAME = "bootstrap"


class Command(BaseCommand):
    """Create the operator, its first user and key, and load the catalogue."""

    help = (
        "Create the operator's organization, its first user and an API key, and load the catalogue of accelerators, "
        "models and grades. The key and the password are written to a file that only its owner reads."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--name", default="Ciyuan Exchange", help="the operator's ASCII name")
        parser.add_argument("--name-zh", default="词元交易所")
        parser.add_argument("--email", default="operator@ciyuan.example", help="the operator's first user")
        parser.add_argument("--password", help="default: one is made")
        parser.add_argument("--credentials", type=Path, default=settings.VAR_DIR / "operator.json")

    def handle(self, *_args: Any, **options: Any) -> None:
        path: Path = options["credentials"]
        with transaction.atomic():
            operator = Organization.objects.filter(kind=Organization.Kind.OPERATOR).order_by("id").first()
            if operator is None:
                operator = create_organization(
                    kind="operator", name=options["name"], name_zh=options["name_zh"], now=clock.now()
                )
            written = self._credentials(operator, path, options)
        if "load_catalogue" in get_commands():
            call_command("load_catalogue", verbosity=0)
        self.stdout.write(f"operator: {operator.name}; credentials {'written to' if written else 'are in'} {path}")

    def _credentials(self, operator: Organization, path: Path, options: dict[str, Any]) -> bool:
        """Make user and key, and write them down; nothing when the file and its key are there."""
        if path.exists() and ApiKey.objects.filter(organization=operator, name=KEY_NAME).exists():
            return False
        password = options["password"] or secrets.token_urlsafe(12)
        user = User.objects.filter(email=options["email"]).first()
        if user is None:
            user = User.objects.create_superuser(options["email"], password, name="Operator")
            add_member(organization=operator, user=user, role="owner", now=clock.now())
        else:
            user.set_password(password)
            user.save(update_fields=["password"])
        key = create_key(organization=operator, name=KEY_NAME, scopes=OPERATOR_SCOPES, now=clock.now())
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        scratch.touch(mode=0o600)
        body = {
            "organization": operator.id,
            "api_key": key.secret,
            "email": options["email"],
            "password": password,
            "base_url": os.environ.get("CIYUAN_BASE_URL", ""),
        }
        scratch.write_text(json.dumps(body, indent=2) + "\n")
        scratch.replace(path)
        return True
