"""What the browser is told not to do, and what production refuses to start with."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from config.check import PRODUCTION
from config.instance import ROOT


def policy(response) -> dict[str, str]:
    directives = response.headers["Content-Security-Policy"].split("; ")
    return {name: value for name, _, value in (one.partition(" ") for one in directives)}


@pytest.mark.django_db
def test_pages_allow_only_our_own_files(client):
    found = policy(client.get("/accounts/login/"))
    assert found["default-src"] == "'none'"
    assert found["script-src"] == found["style-src"] == "'self'"
    assert found["frame-ancestors"] == "'none'"


@pytest.mark.django_db
def test_the_admin_has_a_policy_of_its_own(client):
    assert "'unsafe-eval'" in policy(client.get("/admin/login/"))["script-src"]


def test_the_api_page_comes_from_this_server_alone(client):
    page = client.get("/docs/api")
    assert page.status_code == 200
    assert "//cdn" not in page.content.decode()
    assert policy(page)["default-src"] == "'none'"


def test_the_schema_is_served(client):
    assert client.get("/v1/schema").status_code == 200


def start_in_production(**changes: str | None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **PRODUCTION, "DJANGO_SETTINGS_MODULE": "config.settings"}
    for name, value in changes.items():
        environment.pop(name, None)
        if value is not None:
            environment[name] = value
    command = [sys.executable, "-c", "from django.conf import settings; settings.DEBUG"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_production_starts_with_everything_named():
    assert start_in_production().returncode == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"SECRET_KEY": None}, "Set SECRET_KEY in the environment."),
        ({"SECRET_KEY": "short"}, "SECRET_KEY must have at least 50 characters."),
        ({"ALLOWED_HOSTS": None}, "Set ALLOWED_HOSTS to the host names"),
        ({"DATABASE_URL": None}, "Set DATABASE_URL in the environment."),
        ({"DATABASE_URL": "mysql://somewhere"}, "DATABASE_URL is not a Postgres URL"),
        ({"REDIS_URL": None}, "Set REDIS_URL in the environment."),
        ({"CIYUAN_METRICS_TOKEN": None}, "Set CIYUAN_METRICS_TOKEN in the environment."),
        ({"CIYUAN_DEBUG": "1"}, "refused in production"),
        ({"CIYUAN_MATCHING_WORKERS": "two"}, "CIYUAN_MATCHING_WORKERS must be a whole number, not 'two'."),
        ({"CIYUAN_HTTPS": "perhaps"}, "CIYUAN_HTTPS must be 1 or 0, not 'perhaps'."),
        ({"CIYUAN_ENV": "prod"}, "CIYUAN_ENV must be one of development, test, production, not 'prod'."),
    ],
)
def test_a_wrong_setting_stops_the_start_by_name(changes, words):
    done = start_in_production(**changes)
    assert done.returncode != 0
    assert words in done.stderr.splitlines()[-1]
