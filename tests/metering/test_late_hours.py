"""A late hour makes what was used in it cheaper and lowers the provider's score; the audit derives both anew."""

from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import connection

from billing.models import Charge
from metering_ingest.actions.probe_payments import prices_nano
from metering_ingest.delivery_audit import CHECKS
from metering_ingest.models import ContractSettlement, FindingRuling, ServiceFinding, UsageEvent
from providers.models import DeliveryRecord, Grade
from tests.billing.damage import without_triggers
from tests.given import NOW
from tests.metering.test_settlement import Delivery, mine

pytestmark = pytest.mark.django_db
LOTS = [(10_000, 5_000, 4_000), (1_000_000, 3_000, 3_000), (2_000, 2_000, 2_000)]
SHARE = 100


@pytest.fixture
def late():
    """Everything used on a contract came late, as its gateway and guard both saw: 2,000 tokens of one lot, the rest."""
    delivery = Delivery(lots=LOTS, bond_micro=10**9)
    with without_triggers():
        Grade.objects.update(late_reduction_thousandths=SHARE)
    delivery.report(mine(output_tokens=9_000))
    contract = delivery.contracts[0]
    event = UsageEvent.objects.get()
    work = event.input_micro_st + event.cached_micro_st + event.output_micro_st
    hour = {"hour": NOW.isoformat(), "gateway": True, "guard": True, "probe": None, "work_micro_st": work}
    finding = ServiceFinding.objects.create(
        contract=contract, deployment=delivery.deployment, minutes=[], quantity_tokens=0, late_hours=[hour],
        late_work_micro_st=work, found_at=NOW, decided_from=NOW + timedelta(seconds=9),
    )  # fmt: skip
    FindingRuling.objects.create(finding=finding, verdict="upheld", ruled_at=NOW)
    delivery.settle()
    delivery.work = work
    return delivery


def test_a_late_hour_lowers_the_score_by_the_share_that_goes_back(late, capsys):
    record = DeliveryRecord.objects.get()
    assert record.contracted_tokens == 2 * sum(lot[0] for lot in LOTS)
    assert record.undelivered_tokens == -(-late.work * SHARE // 10**9) > 0
    back = Charge.objects.filter(kind="penalty").order_by("quantity_micro_st")
    cheap, rest = 2_000 * 10**6, late.work - 2_000 * 10**6
    assert [(row.quantity_micro_st, -row.buyer_amount_micro) for row in back] == sorted(
        [(cheap, 2_000 * 2_000 // 1_000 // 10), (rest, (rest * 3_000 * SHARE + 5 * 10**11) // 10**12)]
    )
    call_command("audit")
    assert "clean" in capsys.readouterr().out


DAMAGE = (
    "UPDATE metering_ingest_servicefinding SET late_work_micro_st = late_work_micro_st + 1",
    "UPDATE metering_ingest_servicefinding SET late_hours = jsonb_set(late_hours, '{0,guard}', 'null')",
    "UPDATE metering_ingest_findingruling SET verdict = 'rejected'",
    "UPDATE metering_ingest_contractsettlement SET lines = (SELECT jsonb_agg(CASE WHEN l ->> 'kind' = 'late'"
    " THEN jsonb_set(l, '{buyer_amount_micro}', '-1') ELSE l END) FROM jsonb_array_elements(lines) AS l)",
    "UPDATE metering_ingest_contractsettlement SET lines = (SELECT jsonb_agg(l) FROM jsonb_array_elements(lines) AS l"
    " WHERE l ->> 'kind' <> 'late')",
)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_row_is_named(late, damage):
    check = dict(CHECKS)["late hours are cheaper"]
    assert not list(check())
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    with without_triggers(), connection.cursor() as cursor:
        cursor.execute(damage)
    assert {finding.check for finding in check()} == {"late-hours-are-cheaper"}


def test_lots_have_one_mean_price(late):
    value = sum(tokens * seller for tokens, _, seller in LOTS)
    contract = late.contracts[0].pk
    assert prices_nano({contract: 1}) == {contract: round(value / sum(lot[0] for lot in LOTS))}
    assert ContractSettlement.objects.count() == 2
