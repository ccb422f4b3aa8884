"""`ciyuan webhook …`: where events go, and what came of each."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path

import click

from ciyuan.cli.base import (
    TIME,
    Group,
    cli,
    columns,
    fail,
    json_option,
    key_option,
    open_client,
    print_json,
    show_list,
    show_one,
)
from ciyuan.webhooks import WebhookRefused, verify

_limit_option = click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Most rows.")
_DELIVERY = ("id", "type", "state", "tries", "occurred_at", "next_try_at")


@cli.group("webhook", cls=Group)
def webhook() -> None:
    """Events sent to your servers."""


@webhook.command("list")
@_limit_option
@json_option
def list_(limit: int, as_json: bool) -> None:
    """List webhooks."""
    shown = columns("id", "url", "events", "enabled", "disabled_reason", "failing_since")
    show_list(open_client().webhooks.list(), shown, as_json=as_json, limit=limit)


@webhook.command("create")
@click.argument("url")
@click.option("--event", "events", multiple=True, metavar="TYPE", help="Only these types; all by default.")
@click.option("--description", default="")
@key_option
@json_option
def create(url: str, events: tuple[str, ...], description: str, idempotency_key: str | None, as_json: bool) -> None:
    """Have events sent to a URL. The secret is shown this once."""
    made = open_client().webhooks.create(url, events=events, description=description, idempotency_key=idempotency_key)
    show_one(made, as_json=as_json)


@webhook.command("delete")
@click.argument("webhook_id", type=int, metavar="WEBHOOK")
@key_option
@json_option
def delete(webhook_id: int, idempotency_key: str | None, as_json: bool) -> None:
    """Delete a webhook with its log."""
    show_one(open_client().webhooks.delete(webhook_id, idempotency_key=idempotency_key), as_json=as_json)


@webhook.command("rotate")
@click.argument("webhook_id", type=int, metavar="WEBHOOK")
@click.option("--overlap", type=click.IntRange(0), metavar="SECONDS", help="How long the old secret still signs.")
@key_option
@json_option
def rotate(webhook_id: int, overlap: int | None, idempotency_key: str | None, as_json: bool) -> None:
    """Give a webhook a new secret."""
    made = open_client().webhooks.rotate(webhook_id, overlap_seconds=overlap, idempotency_key=idempotency_key)
    show_one(made, as_json=as_json)


@webhook.command("enable")
@click.argument("webhook_id", type=int, metavar="WEBHOOK")
@click.option("--off", is_flag=True, help="Switch it off instead.")
@key_option
@json_option
def enable(webhook_id: int, off: bool, idempotency_key: str | None, as_json: bool) -> None:
    """Switch a webhook on, or off."""
    changed = open_client().webhooks.change(webhook_id, enabled=not off, idempotency_key=idempotency_key)
    show_one(changed, as_json=as_json)


@webhook.command("test")
@click.argument("webhook_id", type=int, metavar="WEBHOOK")
@key_option
@json_option
def test(webhook_id: int, idempotency_key: str | None, as_json: bool) -> None:
    """Send a test event."""
    show_one(open_client().webhooks.test(webhook_id, idempotency_key=idempotency_key), as_json=as_json)


@webhook.command("deliveries")
@click.argument("webhook_id", type=int, metavar="WEBHOOK")
@click.option("--state", type=click.Choice(["pending", "delivered", "failed"]))
@_limit_option
@json_option
def deliveries(webhook_id: int, state: str | None, limit: int, as_json: bool) -> None:
    """List what was sent, the newest first."""
    rows = open_client().webhooks.deliveries(webhook_id, state=state)
    show_list(rows, columns(*_DELIVERY), as_json=as_json, limit=limit)


@webhook.command("delivery")
@click.argument("delivery_id", metavar="DELIVERY")
@json_option
def delivery(delivery_id: str, as_json: bool) -> None:
    """Show one delivery with its attempts."""
    show_one(open_client().webhooks.delivery(delivery_id), as_json=as_json)


@webhook.command("replay")
@click.argument("webhook_id", type=int, metavar="WEBHOOK")
@click.option("--since", type=TIME, metavar="TIME", help="Events from this time on.")
@click.option("--all", "everything", is_flag=True, help="Those that arrived too.")
@click.option("--delivery", metavar="DELIVERY", help="This delivery alone.")
@key_option
@json_option
def replay(
    webhook_id: int,
    since: datetime | None,
    everything: bool,
    delivery: str | None,
    idempotency_key: str | None,
    as_json: bool,
) -> None:
    """Send events again."""
    if delivery is not None:
        show_one(open_client().webhooks.replay_delivery(delivery, idempotency_key=idempotency_key), as_json=as_json)
        return
    if since is None:
        fail("give --since TIME, or --delivery DELIVERY")
    answer = open_client().webhooks.replay(
        webhook_id, since=since, only_failed=not everything, idempotency_key=idempotency_key
    )
    show_one(answer, as_json=as_json)


@webhook.command("events")
@_limit_option
@json_option
def events(limit: int, as_json: bool) -> None:
    """List what happened in the last sixty days, the newest first."""
    rows = open_client().webhooks.events()
    show_list(rows, columns("id", "type", "occurred_at", "data"), as_json=as_json, limit=limit)


@webhook.command("verify")
@click.argument("body", type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True))
@click.option("--secret", envvar="CIYUAN_WEBHOOK_SECRET", required=True, help="whsec_…; else CIYUAN_WEBHOOK_SECRET.")
@click.option("--headers", "headers_file", type=click.Path(path_type=Path, exists=True), required=True,
              help="A JSON object of the request's headers.")  # fmt: skip
@click.option("--tolerance", type=float, default=300.0, show_default=True, metavar="SECONDS")
def verify_(body: Path, secret: str, headers_file: Path, tolerance: float) -> None:
    """Check a message that arrived, by its body and headers."""
    content = sys.stdin.buffer.read() if str(body) == "-" else body.read_bytes()
    try:
        event = verify(content, json.loads(headers_file.read_text()), secret, tolerance_seconds=tolerance)
    except (WebhookRefused, json.JSONDecodeError) as error:
        fail(str(error))
    print_json(event)
