"""Bank lines: whose they are, once each, and what nobody knows waits for a person."""

import os
import signal
import subprocess
import sys
import time

import pytest
from django.db import connection, transaction
from hypothesis import given
from hypothesis import strategies as st

from billing import payout_queries
from billing.actions.banking import book_line, import_statement
from billing.domain.accounts import bank
from billing.domain.bank_files import BadFile, payment_reference, read_statement, references_in
from billing.domain.payouts import suspense
from billing.models import BankLine, BankLineBooking, BillingProfile, Deposit
from billing.payment_audit import bank_lines_are_booked, deposits_are_transfers
from billing.queries import account_balance, available_micro
from billing.tasks import book_bank_lines
from tests.billing.payments import HEADER, clean_books, given_open_invoice, given_statement, statement_text
from tests.given import NOW, given_api, given_organization

pytestmark = pytest.mark.django_db


def booked(reference):
    return BankLineBooking.objects.get(line__reference=reference)


def test_a_transfer_with_the_reference_becomes_the_buyers_money():
    buyer = given_organization()
    api = given_api(buyer)
    reference = api.get("/v1/payment-reference").json()["reference"]
    given_statement(("B1", "1,000.50", buyer.name, "6222000011112222", f"货款 {reference[:5]} {reference[5:]}"))
    assert booked("B1").state == "matched" and available_micro(buyer.pk) == 1_000_500_000
    assert api.get("/v1/deposits").json()["items"][0]["reference"] == "B1"
    assert clean_books()


@given(st.integers(1, 10**12))
def test_a_mistyped_reference_is_nobodys(number):
    text = payment_reference(number)
    assert references_in(f"款 {text.lower()} 谢谢") == {number}
    for index in range(2, len(text)):
        other = text[:index] + str((int(text[index]) + 1) % 10) + text[index + 1 :]
        assert number not in references_in(other)
    assert references_in(text + "7") != {number}


@pytest.mark.parametrize(
    ("line", "state", "why"),
    [
        (("L", "100", "Somebody Else", "111111", "{ref}"), "suspense", "the payer is not whom the reference names"),
        (("L", "100", "北京算力", "111111", "{ref}"), "matched", "reference"),
        (("L", "100", "", "", "{ref}"), "matched", "reference"),
        (("L", "88.00", "北京算力", "111111", "rent"), "matched", "payer and amount"),
        (("L", "88.01", "北京算力", "111111", "rent"), "suspense", "the amount is not what this payer owes"),
        (("L", "88.00", "Unknown Ltd", "111111", "rent"), "suspense", "the payer is not known"),
        (("L", "88.00", "", "", ""), "suspense", "the payer is not known"),
        (("L", "88.00", "北京算力", "1", "{ref} {other}"), "suspense", "several payment references"),
        (("L", "-5.00", "北京算力", "1", "fee"), "unexplained", "money went out"),
    ],
)
def test_reference_payer_and_amount_decide_together(line, state, why):
    buyer, other = given_organization(name_zh="北京算力"), given_organization()
    BillingProfile.objects.create(organization=buyer, legal_name="北京算力")
    given_open_invoice(buyer, 88_000_000)
    references = {"ref": payment_reference(buyer.pk), "other": payment_reference(other.pk)}
    given_statement(tuple(cell.format(**references) for cell in line))
    assert booked("L").state == state and why in booked("L").reason
    assert not [*deposits_are_transfers(), *bank_lines_are_booked()]


def test_the_same_file_and_the_same_line_in_another_are_harmless():
    buyer = given_organization()
    line = ("B1", "10", "", "", payment_reference(buyer.pk))
    first = given_statement(line)
    assert given_statement(line).pk == first.pk
    second = given_statement(line, ("B2", "5", "", "", payment_reference(buyer.pk)))
    assert (second.lines_added, second.lines_repeated) == (1, 1)
    changed = given_statement(("B1", "11", "", "", payment_reference(buyer.pk)))
    assert "another amount" in changed.rejected[0]["detail"]
    assert available_micro(buyer.pk) == 15_000_000 and Deposit.objects.count() == 2
    assert clean_books()


def test_the_operator_resolves_and_returns_what_is_in_suspense():
    operator, buyer = given_organization("operator"), given_organization()
    api, stranger = given_api(operator), given_api(buyer)
    given_statement(("B1", "10", "X", "6222", "?"), ("B2", "20", "Y", "6333", "?"), ("B3", "30", "Z", "", "?"))
    lines = {item["reference"]: item["id"] for item in api.get("/v1/bank/lines?state=suspense").json()["items"]}
    assert account_balance(suspense()).posted_micro == 60_000_000
    assert stranger.post(f"/v1/bank/lines/{lines['B1']}/resolve", {"organization": buyer.pk}).status_code == 404
    done = api.post(f"/v1/bank/lines/{lines['B1']}/resolve", {"organization": buyer.pk}).json()
    assert done["state"] == "resolved" and available_micro(buyer.pk) == 10_000_000
    assert api.post(f"/v1/bank/lines/{lines['B1']}/resolve", {"organization": buyer.pk}).status_code == 200
    late = api.post(f"/v1/bank/lines/{lines['B1']}/return")
    assert (late.status_code, late.json()["code"]) == (409, "bank-line-resolved")
    assert api.post(f"/v1/bank/lines/{lines['B2']}/return").json()["state"] == "returned"
    assert api.post(f"/v1/bank/lines/{lines['B3']}/return").json()["code"] == "no-bank-account"
    assert account_balance(suspense()).posted_micro == 30_000_000
    given_statement(("B4", "7", "X", "6222", "again"))  # the payer is known now, the amount says nothing
    assert booked("B4").suggestion_id == buyer.pk
    assert clean_books()


def test_the_api_imports_once_and_books_by_itself():
    operator, buyer = given_organization("operator"), given_organization()
    api = given_api(operator)
    body = {"content": statement_text(("B1", "10", "", "", payment_reference(buyer.pk))), "name": "nov.csv"}
    assert given_api(buyer).post("/v1/bank/statements", body).json()["code"] == "scope-missing"
    assert api.post("/v1/bank/statements", body).json()["added"] == 1
    assert (book_bank_lines(), book_bank_lines()) == (1, 0)
    assert available_micro(buyer.pk) == 10_000_000
    again = api.post("/v1/bank/statements", body).json()
    assert again["added"] == 1 and BankLine.objects.count() == 1
    for content in (
        "",
        "hello",
        HEADER,
        HEADER.replace("交易流水号", "x") + "\na,b",
        "\x00",
        'reference,date,amount\n"',
    ):
        answer = api.post("/v1/bank/statements", {"content": content, "name": ""})
        assert answer.status_code == 400, content
    assert BankLine.objects.count() == 1


def test_bad_lines_are_named_and_lose_none_of_their_neighbours():
    buyer = given_organization()
    reference = payment_reference(buyer.pk)
    rows = [
        ("B1", "0", "", "", ""), ("B2", "1e99", "", "", ""), ("B3", "0.001", "", "", ""), ("", "5", "", "", ""),
        ("B5", "1000000000001", "", "", ""), ("B6", "abc", "", "", ""), ("B7", "5", "", "", reference),
    ]  # fmt: skip
    statement = given_statement(*rows)
    assert [entry["number"] for entry in statement.rejected] == [2, 3, 4, 5, 6, 7]
    assert statement.lines_added == 1 and available_micro(buyer.pk) == 5_000_000


def test_banks_own_dialects_are_read():
    text = (
        "账号：6222\n期间：11月\n交易流水号,交易时间,收入金额,支出金额,对方户名,对方账号,摘要\n"
        'A1,20261120,"1,234.50",,甲,1,x\nA2,2026/11/20,,3.00,乙,2,y\n'
    )
    for content in (text.encode(), b"\xef\xbb\xbf" + text.encode(), text.encode("gb18030")):
        from billing.domain.bank_files import decoded

        lines, bad = read_statement(decoded(content))
        assert [line.amount_micro for line in lines] == [1_234_500_000, -3_000_000] and not bad
    with pytest.raises(BadFile):
        read_statement("a,b\n1,2\n")


@pytest.mark.django_db(transaction=True)
def test_the_same_file_at_once_on_ten_connections_is_booked_once(race):
    buyer = given_organization()
    lines = [(f"B{number}", "1", "", "", payment_reference(buyer.pk)) for number in range(5)]
    content = statement_text(*lines).encode()

    def take(name):
        def run():
            with transaction.atomic():
                import_statement(content=content + name, name="", now=NOW)
            for line_id in payout_queries.lines_to_book():
                with transaction.atomic():
                    book_line(line_id=line_id, now=NOW)

        return run

    # half of them the same bytes, half with the same lines in other bytes
    results = race(*[take(b"")] * 5, *[take(b"\n" * number) for number in range(1, 6)])
    assert results == [None] * 10
    assert Deposit.objects.count() == 5 and available_micro(buyer.pk) == 5_000_000
    assert account_balance(bank()).posted_micro == -5_000_000
    assert clean_books()


@pytest.mark.proof
@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
def test_a_process_killed_between_storing_and_booking_leaves_work_for_the_next(tmp_path):
    buyer = given_organization()
    path = tmp_path / "nov.csv"
    path.write_text(statement_text(("B1", "10", "", "", payment_reference(buyer.pk))))
    command = [sys.executable, "manage.py", "import_bank_statement", str(path)]
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "config.settings", "DATABASE_URL": database_url()}
    with transaction.atomic():
        with connection.cursor() as cursor:  # the booking waits here, with its line stored
            cursor.execute("LOCK TABLE billing_account IN EXCLUSIVE MODE")
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 60
        while not BankLine.objects.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.3)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(20)
    assert BankLine.objects.count() == 1 and not Deposit.objects.exists()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "1 booked" in done.stdout
    assert available_micro(buyer.pk) == 10_000_000
    assert clean_books()


def database_url():
    from django.conf import settings

    from tests import servers

    return os.environ["DATABASE_URL"].replace(f"/{servers.TEMPLATE}?", f"/{settings.DATABASES['default']['NAME']}?")


def test_damage_behind_the_actions_back_is_found():
    buyer = given_organization()
    given_statement(("B1", "10", "", "", payment_reference(buyer.pk)), ("B2", "10", "", "", "?"))
    assert clean_books()
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE billing_deposit DISABLE TRIGGER ALL")
        cursor.execute("ALTER TABLE billing_bankline DISABLE TRIGGER ALL")
        cursor.execute("UPDATE billing_deposit SET amount_micro = amount_micro + 1")
        cursor.execute("UPDATE billing_bankline SET amount_micro = amount_micro + 10000 WHERE reference = 'B2'")
    assert len(list(deposits_are_transfers())) == 1
    assert [finding.subject for finding in bank_lines_are_booked()] == ["B1 (matched)", "B2 (suspense)", "suspense"]
