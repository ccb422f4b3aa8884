"""What the operator does, told in a browser: a halt, a discrepancy, a credit, a payout that takes two persons."""

import csv
import io

import pytest
from ciyuan import Client

from tests.web.stage import reload_until, until

pytestmark = [pytest.mark.browser, pytest.mark.processes]
HOUSE = ("Ciyuan Exchange Ltd.", "91110108MA01CIYUAN")
SELLER = ("钱塘云计算有限公司", "91330106MA2QIANTAN")


def row(page, heading, text):
    """The row that holds `text` in the card under `heading`."""
    card = page.locator("section.card", has=page.get_by_role("heading", name=heading, exact=True))
    return card.locator("tbody tr", has_text=text)


def delivered(stage, **tokens):
    """A market that is sold and in delivery."""
    market = stage.market()
    stage.offer(market, **({"tokens": tokens["offered"]} if tokens else {}))
    stage.bid(market, **({"tokens": tokens["wanted"]} if tokens else {}))
    stage.close_call(market)
    stage.deliver(market)
    stage.use(market)
    return market


def test_the_operator_halts_and_resumes_a_market(visitor, stage):
    market = stage.market()
    watcher = visitor(locale="en")
    watching = watcher.go(f"/markets/{market.id}")
    operator = visitor("operator", locale="en")
    for action, halted in (("halt", True), ("resume", False)):
        page = operator.go(f"/admin/exchange/market/?id__exact={market.id}")
        page.locator("input[name=_selected_action]").check()
        page.select_option("select[name=action]", action)
        page.fill("input[name=reason]", "a meter is silent")
        page.get_by_role("button", name="Run").click()
        until(lambda halted=halted: stage.operator.markets.get(market.id)["halted"] is halted, f"{action} to be done")
        reload_until(
            watching,
            lambda now, halted=halted: bool(now.locator("h1 .phase.halted").count()) is halted,
            "it to be seen",
        )
    page = operator.go("/admin/identity/auditentry/")
    assert {"market.halt", "market.resume"} <= set(page.locator("#result_list").inner_text().split())
    assert not watcher.complaints and not operator.complaints, (watcher.complaints, operator.complaints)


def test_a_discrepancy_is_talked_about_and_decided(visitor, stage):
    market = delivered(stage)
    contract = next(iter(stage.buyer.client.contracts.list(market=market.id)))
    opened = stage.buyer.client.meters.register(name=f"gateway {market.id}", role="buyer")
    stage.count_half(Client(opened.secret, stage.instance.base_url), contract.id)
    stage.settle(market)

    def waiting():
        return [one.id for one in stage.operator.discrepancies.list(contract=contract.id) if one.state == "open"]

    found = until(waiting, "a discrepancy")[0]
    buyer, operator = visitor("buyer", locale="en"), visitor("operator", locale="en")
    page = buyer.go(f"/discrepancies/{found}")
    page.get_by_label("What you have to say").fill("Our gateway saw half of these requests. 🙂")
    page.get_by_role("button", name="Send").click()
    page.get_by_text("Our gateway saw half").wait_for()
    while still := waiting():
        page = operator.go(f"/discrepancies/{found if found in still else still[0]}")
        if found in still:
            assert "Our gateway saw half" in page.locator("main").inner_text()
        page.get_by_label("Tokens that are billed").fill("0")
        page.get_by_label("Reason").fill("The buyer's log is right.")
        page.get_by_role("button", name="Decide").click()
        page.get_by_text("The decision stands").wait_for()
    reload_until(
        buyer.go(f"/discrepancies/{found}"),
        lambda now: "The buyer's log is right." in now.locator("main").inner_text(),
        "the decision to be seen",
    )
    assert not buyer.complaints and not operator.complaints, (buyer.complaints, operator.complaints)


def test_the_operator_credits_what_a_buyer_objects_to(visitor, stage, played):
    invoices = stage.buyer.client.invoices
    invoice = next(one for one in invoices.list() if one.kind == "invoice" and one.total >= 1)
    line = max((one for one in invoices.get(invoice.id).lines if one.section == "supply"), key=lambda one: one.amount)
    stage.buyer.client.disputes.open(invoice.id, line=line.number, amount="0.40", reason="Answers came cut off.")
    operator = visitor("operator", locale="en")
    page = operator.go("/finance")
    objection = row(page, "Open disputes", "Answers came cut off.")
    assert invoice.number in objection.inner_text()
    objection.get_by_label("Credit in ¥").fill("0.90")
    objection.get_by_label("Why").fill("Half of it was.")
    objection.get_by_role("button", name="Decide").click()
    objection.get_by_text("Credit ¥0 to ¥0.40").wait_for()
    assert objection.get_by_label("Why").input_value() == "Half of it was."
    objection.get_by_label("Credit in ¥").fill("0.25")
    objection.get_by_role("button", name="Decide").click()
    page.get_by_role("status").get_by_text(f"{invoice.number}: Accepted").wait_for()
    assert objection.count() == 0
    # The buyer finds the note that corrects the invoice, over what was credited.
    buyer = visitor("buyer", locale="en")
    page = buyer.go(f"/invoices/{invoice.id}")
    reload_until(page, lambda now: row(now, "Notes that correct it", "0.25").count(), "the credit note")
    row(page, "Notes that correct it", "0.25").get_by_role("link").click()
    page.get_by_text("Corrects").wait_for()
    assert not buyer.complaints and not operator.complaints, (buyer.complaints, operator.complaints)


def named_for_documents(window, organization, name, tax_number):
    """Fill in, in the console, what an organization's documents print."""
    page = window.go("/admin/billing/billingprofile/add/")
    page.select_option("[name=organization]", str(organization))
    page.fill("[name=legal_name]", name)
    page.fill("[name=tax_number]", tax_number)
    page.locator("[name=_save]").first.click()
    page.wait_for_url("**/admin/billing/billingprofile/")


def test_two_operators_pay_a_provider(visitor, stage, tmp_path):
    seller = stage.rivals[0]
    first, second = visitor("operator", locale="en"), visitor("second-operator", locale="en")
    named_for_documents(first, stage.house, *HOUSE)
    named_for_documents(first, seller.organization, *SELLER)
    market = delivered(stage, offered=10_000_000, wanted=8_000_000)
    stage.settle(market)
    statement = until(
        lambda: [one for one in seller.client.statements.list() if one.period_start == market.window_start],
        "the statement",
    )[0]

    # The provider names its account and sends its tax invoice; the operator has looked at the account.
    provider = visitor("rival", locale="en")
    page = provider.go("/payouts")
    page.get_by_label("Holder").fill(SELLER[0])
    page.get_by_label("Account number").fill("6222000033334444")
    page.get_by_label("Bank", exact=True).fill("工商银行杭州分行")
    page.get_by_role("button", name="Add").click()
    page.get_by_text("to be verified").wait_for()
    [account] = stage.operator.bank.accounts(organization=seller.organization)
    stage.operator.bank.verify_account(account.id)
    uploaded = seller.client.payouts.upload_tax_invoice(
        statement.id, number="26" + f"{statement.id:018d}", issued_on="2026-12-01", seller_name=SELLER[0],
        seller_tax_number=SELLER[1], buyer_name=HOUSE[0], buyer_tax_number=HOUSE[1], total=statement.total,
        tax=statement.tax,
    )  # fmt: skip
    assert uploaded.matches, uploaded
    page = provider.go("/payouts")
    page.get_by_role("button", name="Pay out ¥").click()
    page.get_by_text("The payout is asked for.").wait_for()
    number = page.locator("main tbody tr", has_text="6222000033334444").locator("td").first.inner_text().split()[0]

    # Four eyes: one person's word, however often, is one.
    for _ in range(2):
        page = first.go("/finance")
        row(page, "Payouts under way", number).get_by_role("button", name="Approve").click()
        page.get_by_role("status").get_by_text(f"{number}: ").wait_for()
        assert "1 / 2" in row(page, "Payouts under way", number).inner_text()
    page = second.go("/finance")
    row(page, "Payouts under way", number).get_by_role("button", name="Approve").click()
    page.get_by_role("status").get_by_text(f"{number}: Approved").wait_for()

    # It goes to the bank in a file; the bank says that it has paid.
    page.get_by_role("button", name="Make a batch").click()
    page.get_by_role("status").get_by_text("is ready to download").wait_for()
    with page.expect_download() as downloaded:
        page.get_by_role("link", name="Batch").first.click()
    [payment] = csv.DictReader(io.StringIO(downloaded.value.path().read_text("utf-8-sig")))
    assert (payment["收款账号"], payment["收款人名称"]) == ("6222000033334444", SELLER[0])
    answer = tmp_path / "results.csv"
    answer.write_text(f"付款编号,金额,处理结果,失败原因,交易流水号\n{number},{payment['金额']},成功,,BANK-1\n")
    results = page.locator("form", has=page.get_by_role("button", name="Import the bank's answer"))
    results.locator("input[type=file]").set_input_files(answer)
    results.get_by_role("button", name="Import the bank's answer").click()
    page.get_by_role("status").get_by_text("1 paid").wait_for()
    page = provider.go("/payouts")
    assert "paid" in page.locator("main tbody tr", has_text=number).inner_text().lower()
    for window in (first, second, provider):
        assert not window.complaints, window.complaints
