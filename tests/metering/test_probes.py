"""The exchange's own requests: as a buyer's to all that serve them, nobody's usage, paid by the default account."""

from datetime import timedelta
from uuid import UUID

import pytest
from django.core.management import call_command
from django.db import connection

from billing.domain.accounts import default_fund, payable
from billing.models import Charge, InvoiceLine, Transfer
from billing.tasks import issue_due_invoices
from core import clock
from core.transactions import durable
from exchange.models import ContractDeployment
from metering_ingest import probe_attempts, service_queries
from metering_ingest.actions import probes
from metering_ingest.actions.probe_payments import most_micro_st
from metering_ingest.delivery_audit import CHECKS
from metering_ingest.models import LateUsage, Probe, ProbePayment, UsageEvent
from metering_ingest.queries import delivered_tokens
from tests.billing.damage import without_triggers
from tests.given import NOW, Api, given_api, given_organization
from tests.metering.given import given_meter, given_meter_key
from tests.metering.test_settlement import DUE, Delivery, mine

pytestmark = pytest.mark.django_db
ASKED_AT = NOW - timedelta(minutes=30)
LATER = DUE + timedelta(minutes=1)


class Probed(Delivery):
    """A delivery that was probed twice; usage of the first buyer's contract and of one probe is reported."""

    def __init__(self, asked=2, **given):
        given_organization("operator")
        super().__init__(**given)
        self.contract = self.contracts[0]
        durable(lambda: probes.prepare(deployment_id=self.deployment.pk, now=ASKED_AT))
        for _ in range(asked):
            Probe.objects.create(deployment=self.deployment, contract=self.contract, at=ASKED_AT, ok=True, prompt=0)

    def probe(self, id_="p-1", **counts):
        return mine(id_, attempt_id=probe_attempts.new_attempt(self.deployment.pk), **counts)

    def taken(self, contract=None):
        rows = UsageEvent.objects.filter(contract_id=-(contract or self.contract).pk)
        return sum(row.input_micro_st + row.cached_micro_st + row.output_micro_st for row in rows)


def test_a_probe_bears_the_very_token_that_the_buyer_bears(monkeypatch):
    probed = Probed()
    monkeypatch.setattr(clock, "now", lambda: ASKED_AT)
    asked = durable(lambda: probes.prepare(deployment_id=probed.deployment.pk, now=ASKED_AT + timedelta(minutes=5)))
    assert {door.contract_id for door in asked.doors} == {contract.pk for contract in probed.contracts}
    for door in asked.doors:
        buyer = next(contract.buyer for contract in probed.contracts if contract.pk == door.contract_id)
        assert given_api(buyer).get(f"/v1/contracts/{door.contract_id}/access").json()["token"] == door.token
        assert UUID(hex=door.attempt).version == 4, "as a gateway names its attempts"
    ContractDeployment.objects.update(until=ASKED_AT)
    assert not durable(lambda: probes.prepare(deployment_id=probed.deployment.pk, now=ASKED_AT)).doors


def test_only_the_exchange_names_its_attempts(settings):
    name = probe_attempts.new_attempt(7)
    assert probe_attempts.is_ours(name, deployment_id=7) and not probe_attempts.is_ours(name, deployment_id=8)
    assert name != probe_attempts.new_attempt(7)
    for other in ("", "x" * 32, name[:-1], f"{name}.2", name[:-1] + "gh", UUID(int=5, version=4).hex, name[:-1] + "é"):
        assert not probe_attempts.is_ours(other, deployment_id=7)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another" * 9, [settings.SECRET_KEY]
    assert probe_attempts.is_ours(name, deployment_id=7), "a key that was changed still knows its own"
    settings.SECRET_KEY_FALLBACKS = []
    assert not probe_attempts.is_ours(name, deployment_id=7)


def test_its_usage_is_nobodys_and_paid_once_by_the_default_account(capsys):
    probed = Probed()
    before = Delivery()
    sent = mine(output_tokens=5_000), probed.probe(), mine("e-3", attempt_id="a" * 32)
    assert probed.report(*sent) == ["accepted"] * 3
    assert before.report(mine(output_tokens=5_000), mine("e-3")) == ["accepted"] * 2
    taken = probed.taken()
    assert 0 < taken < 2 * most_micro_st(probed.grade)
    used = [list(delivered_tokens([one.contracts[0].pk]).values()) for one in (probed, before)]
    assert used[0] == used[1] != []
    assert probed.settle() == before.settle() == 2
    paid = (taken * 3_000 + 5 * 10**8) // 10**9
    [row] = ProbePayment.objects.all()
    assert (row.work_micro_st, row.amount_micro) == (taken, paid)
    assert probed.micro(default_fund()) == -paid
    assert probed.micro(payable(probed.provider.pk)) - before.micro(payable(before.provider.pk)) == paid
    buyers = {
        delivery: sorted(
            Charge.objects.filter(buyer=delivery.buyer).exclude(kind="probe").values_list("kind", "buyer_amount_micro")
        )
        for delivery in (probed, before)
    }
    assert buyers[probed] == buyers[before], "the buyer is charged as if nobody had asked"
    assert probed.settle() == 0 and ProbePayment.objects.count() == 1
    assert Transfer.objects.filter(key__startswith=f"probe:{probed.contract.pk}:").count() == 1
    assert issue_due_invoices()
    [line] = InvoiceLine.objects.filter(kind="probe")
    assert (line.invoice.organization, line.amount_micro) == (probed.provider, -probed.micro(default_fund()))
    call_command("audit")
    assert "clean" in capsys.readouterr().out


def test_later_truths_move_the_difference(capsys):
    probed = Probed(bond_micro=10**6)
    probed.report(probed.probe())
    probed.settle()
    once = ProbePayment.objects.get().amount_micro
    probed.report(probed.probe("p-2"), now=LATER)
    assert LateUsage.objects.get().contract_id == probed.contract.pk
    probed.settle(LATER)
    both = ProbePayment.objects.get(revision=1)
    assert (both.work_micro_st, both.amount_micro) == (probed.taken(), -probed.micro(default_fund()))
    assert abs(both.amount_micro - 2 * once) <= 1
    void = {"specversion": "1.0", "type": "ciyuan.usage.void", "id": "v-1", "source": "gw",
            "data": {"refers_to": {"id": "p-1", "time": mine()["time"]}}}  # fmt: skip
    assert probed.report(void, now=LATER) == ["accepted"]
    assert {row.contract_id for row in LateUsage.objects.all()} == {probed.contract.pk}
    probed.settle(LATER)
    assert ProbePayment.objects.get(revision=2).amount_micro == once
    assert probed.micro(default_fund()) == -once
    assert issue_due_invoices()
    [line] = InvoiceLine.objects.filter(kind="probe")
    assert (line.invoice.organization, line.amount_micro) == (probed.provider, -probed.micro(default_fund()))
    call_command("audit")
    assert "clean" in capsys.readouterr().out


def test_more_than_was_asked_is_not_paid():
    probed = Probed(asked=1)
    probed.report(probed.probe(output_tokens=900_000), probed.probe("p-2", output_tokens=900_000))
    probed.settle()
    row = ProbePayment.objects.get()
    assert row.work_micro_st == most_micro_st(probed.grade) < probed.taken()
    assert not list(dict(CHECKS)["probes are paid"]())


def test_another_meters_attempt_is_an_ordinary_one(monkeypatch):
    """A gateway's report, another deployment's name, and usage of no contract stay where they belong."""
    probed = Probed()
    stolen = probe_attempts.new_attempt(probed.deployment.pk + 1)
    assert probed.report(mine("e-1", attempt_id=stolen)) == ["accepted"]
    assert UsageEvent.objects.get().contract_id == probed.contract.pk


def test_a_guard_is_told_what_was_the_exchanges(monkeypatch):
    probed = Probed()
    probed.report(probed.probe())
    monkeypatch.setattr(clock, "now", lambda: NOW - timedelta(minutes=1))
    guard = Api(given_meter_key(given_meter(probed.deployment)))
    minute = {"minute": (NOW - timedelta(minutes=5)).isoformat(), "deployment": probed.deployment.pk}
    said = guard.post("/v1/service/reports", {"run": "r", "minutes": [minute]}).json()
    assert said == {"new": 1, "probed": [{"contract": probed.contract.pk, "work_micro_st": probed.taken()}]}
    assert service_queries.probed_micro_st(probed.deployment.pk, NOW) == {}, "the window is over"


DAMAGE = (
    "UPDATE metering_ingest_probepayment SET amount_micro = amount_micro + 1",
    "UPDATE metering_ingest_probepayment SET work_micro_st = work_micro_st - 1",
    "UPDATE billing_charge SET seller_amount_micro = seller_amount_micro + 1 WHERE kind = 'probe'",
    "DELETE FROM billing_transfer WHERE key LIKE 'probe:%'",
    "UPDATE usage_event SET input_micro_st = input_micro_st + 1 WHERE contract_id < 0",
    "DELETE FROM metering_ingest_probepayment",
)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_payment_is_named(damage):
    probed = Probed()
    probed.report(probed.probe())
    probed.settle()
    check = dict(CHECKS)["probes are paid"]
    assert not list(check())
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    with without_triggers(), connection.cursor() as cursor:
        cursor.execute(damage)
    [finding] = check()
    assert finding.subject == f"contract {probed.contract.pk}"
