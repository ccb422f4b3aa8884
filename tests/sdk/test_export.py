"""`ciyuan export`: everything once, whole, and nothing anew that is there."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from ciyuan.export import Export

from billing.models import Invoice
from tests.billing.test_periods import Cast
from tests.given import given_api
from tests.sdk.in_process import client_of, commands

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("one_transaction")]
NOW = datetime(2026, 12, 20, tzinfo=UTC)


def names(paths: Any, folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in paths)


def test_each_document_and_month_once(tmp_path: Path) -> None:
    cast = Cast()
    cast.issue()
    number = Invoice.objects.get(side="buyer").number
    client = client_of(given_api(cast.buyer))
    job = Export(client, tmp_path, ("pdf", "json", "xml"), "en", since=date(2026, 11, 9))
    assert names(job.run(NOW), tmp_path) == [
        f"invoices/{number}-en.pdf", f"invoices/{number}.json", f"invoices/{number}.xml",
        "months/2026-11-focus.csv", "months/2026-11-reconciliation-en.pdf", "months/2026-11-reconciliation.csv",
    ]  # fmt: skip
    assert names(job.run(NOW), tmp_path) == []
    (tmp_path / f"invoices/{number}.json").unlink()
    (tmp_path / "months/2026-11-focus.csv").write_bytes(b"as it was before a late payment")
    assert names(job.run(NOW), tmp_path) == [f"invoices/{number}.json", "months/2026-11-focus.csv"]
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]
    provider = Export(client_of(given_api(cast.provider)), tmp_path / "provider", ("csv", "xml"))
    assert [path.parent.name for path in provider.run(NOW)][:1] == ["statements"]
    assert names(Export(client, tmp_path / "none", since=date(2026, 12, 1)).run(NOW), tmp_path) == []


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    ciyuan = commands(monkeypatch, capsys)
    cast = Cast()
    cast.issue()
    client = client_of(given_api(cast.buyer))
    code, out, _ = ciyuan(client, "export", str(tmp_path / "a"), "--format", "csv", "--since", "2026-11")
    assert code == 0 and f"new files in {tmp_path / 'a'}" in out
    code, _, err = ciyuan(client, "export", str(tmp_path / "a"), "--since", "November")
    assert code != 0 and "no month such as 2026-10" in err
    (tmp_path / "file").write_text("")
    code, _, err = ciyuan(client, "export", str(tmp_path / "file"))
    assert code != 0 and "file" in err
