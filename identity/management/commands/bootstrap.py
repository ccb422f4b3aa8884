"""`manage.py bootstrap`: the operator's organization, its key and its administrator, once."""

import os
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection, transaction

from core import clock
from core.errors import Problem
from identity.actions.keys import create_key
from identity.actions.organizations import add_member, create_organization
from identity.auth import authenticate_key
from identity.models import Membership, Organization, User

SCOPES = ("trade", "billing", "read", "operate")


class Command(BaseCommand):
    """Make the operator, its API key in a private file, and an administrator. Repeating changes nothing."""

    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--name", default="Ciyuan Exchange", help="the operator's ASCII name")
        parser.add_argument("--name-zh", default="词元交易所", help="the operator's Chinese name")
        parser.add_argument("--key-file", type=Path, required=True, help="where the operator's API key is written")
        parser.add_argument("--admin-email", help="an administrator to create")
        parser.add_argument("--admin-password-env", metavar="VARIABLE", help="the variable that holds the password")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with transaction.atomic():
                self._bootstrap(**options)
        except Problem as problem:
            raise CommandError(problem.detail) from problem

    def _bootstrap(self, *, name: str, name_zh: str, key_file: Path, **options: Any) -> None:
        now = clock.now()
        with connection.cursor() as cursor:  # one bootstrap at a time: there is no row to lock yet
            cursor.execute("LOCK TABLE identity_organization IN SHARE ROW EXCLUSIVE MODE")
        operator = Organization.objects.filter(kind="operator").order_by("id").first()
        if operator is None:
            operator = create_organization(kind="operator", name=name, name_zh=name_zh, now=now)
        kept = key_file.read_text().strip() if key_file.exists() else ""
        actor = authenticate_key(kept, now=now) if kept else None
        if actor is None or actor.organization_id != operator.pk:
            new = create_key(organization=operator, name="bootstrap", scopes=SCOPES, now=now)
            key_file.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(new.secret + "\n")
            self.stdout.write(f"The operator's API key is in {key_file}.")
        email, variable = options["admin_email"], options["admin_password_env"]
        if email and not User.objects.filter(email=email.lower()).exists():
            password = os.environ.get(variable or "", "")
            if not password:
                raise CommandError("Name the variable that holds the administrator's password: --admin-password-env.")
            user = User.objects.create_superuser(email, password)
            add_member(organization=operator, user=user, role=Membership.Role.OWNER, now=now)
            self.stdout.write(f"Administrator {user.email} may sign in.")
