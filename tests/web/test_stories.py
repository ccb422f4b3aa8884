"""What members do here, told in a browser: a buyer and a provider from the beginning to the money; a stranger."""

import re

import pytest
from ciyuan import Meter

from tests.web.stage import PASSWORD, reload_until, until

pytestmark = [pytest.mark.browser, pytest.mark.processes]


def open_market(window, market):
    page = window.go(f"/markets/{market.id}")
    page.wait_for_selector("#ticket")
    return page


def choose(page, field, text):
    """Choose the option of a list whose label holds `text`."""
    label = next(one for one in page.locator(f"{field} option").all_inner_texts() if text in one)
    page.select_option(field, label=label)


def filled(page, **fields):
    """Write into a form's fields by their names."""
    for name, value in fields.items():
        page.fill(f"main [name={name}]", value)


def test_a_buyer_from_signing_up_to_the_invoice(visitor, stage):
    buyer = visitor(locale="en")
    page = buyer.go("/accounts/signup/")
    filled(page, email="li@ink.example", password1="correct horse 9", password2="correct horse 9")
    page.press("input[name=password2]", "Enter")
    page.wait_for_url("**/organization/new")
    filled(page, name="Ink Stone Press", name_zh="砚台出版")
    page.check("#id_accepted")
    page.get_by_role("button", name="Open it").click()
    page.wait_for_url("**/top-up")
    reference = page.locator("#reference").inner_text()
    assert re.fullmatch(r"CY\d{8,}", reference)

    # The money arrives at the bank with the reference; the operator enters its statement.
    stage.operator.bank.import_statement(
        "流水号,交易时间,收入金额,对方户名,对方账号,摘要\n"
        f"INK-1,2026-12-01 09:30:00,10000.00,砚台出版,6222000011112222,{reference}\n"
    )
    reload_until(page, lambda now: "¥10,000.00" in now.locator("main").inner_text(), "the money to arrive")

    market = stage.market()
    stage.offer(market)
    page = open_market(buyer, market)
    filled(page, price="5.60", quantity="１，０００，０００")
    page.wait_for_selector("#estimate b")
    assert "Held until" in page.locator("#estimate").inner_text()
    page.get_by_role("button", name="Place the order").dblclick()
    page.wait_for_selector(".note.success")
    assert re.search("Buy order for .+ tokens accepted", page.locator(".note.success").inner_text())
    page.go_back()
    page.go_forward()
    page.wait_for_selector("#live tbody tr")
    assert page.locator("#live tbody tr").count() == 1

    # The page follows the market by itself: the call closes, the result and its reason stand there.
    stage.close_call(market)
    page.wait_for_selector(".why")
    assert "Why this price." in page.locator(".why").inner_text()
    page.locator("#live", has_text="1,000,000 filled").wait_for()

    stage.deliver(market)
    buyer.go("/contracts").locator("main tbody tr a").first.click()
    page.get_by_role("button", name="Show endpoint and token").click()
    page.wait_for_selector("#token-1")
    assert page.locator("#token-1").inner_text().count(".") == 2
    assert "chat/completions" in page.locator("#curl-1").inner_text()
    stage.use(market)
    buyer.go("/usage")
    reload_until(page, lambda now: "qwen3-32b" in now.locator("main").inner_text().lower(), "usage to be shown")

    stage.settle(market)
    buyer.go("/invoices")
    reload_until(page, lambda now: now.locator("main tbody tr").count(), "the invoice")
    page.locator("main tbody tr a").first.click()
    page.wait_for_selector("a[href$='.pdf']")
    assert page.locator("tr.total").count() == 1
    with page.expect_download() as downloaded:
        page.locator("a[href$='.pdf']").first.click()
    assert downloaded.value.path().read_bytes().startswith(b"%PDF-")
    assert not buyer.complaints, buyer.complaints


def test_a_provider_from_a_deployment_to_the_statement(visitor, stage, tmp_path):
    provider = visitor("provider", locale="en")
    page = provider.go("/deployments/new")
    filled(
        page, name="hall 9", accelerator_count="64", engine="vllm", region="cn-north",
        endpoint="https://hall9.yanshan.example/v1", rated_tokens_per_minute="１００k",
    )  # fmt: skip
    choose(page, "#id_grade", "off-peak")
    choose(page, "#id_accelerator", "H20")
    page.select_option("#id_precision", "bf16")
    page.get_by_role("button", name="Register").click()
    page.wait_for_url("**/deployments")
    assert "hall 9" in page.locator("main").inner_text()

    market = stage.market()
    page = provider.go("/capacity/new")
    choose(page, "#id_deployment", "hall 9")
    page.select_option("#id_market", str(market.id))
    filled(page, quantity="2M", tokens_per_minute="80,000", reserve_price="1.00", list_price="2.80")
    page.get_by_role("button", name="Publish").click()
    page.wait_for_url("**/capacity")
    assert "hall 9" in page.locator("main tbody tr").first.inner_text()

    page = provider.go("/meters")
    filled(page, name="hall-9")
    choose(page, "#id_deployment", "hall 9")
    page.get_by_role("button", name=re.compile("^Open")).click()
    page.wait_for_selector("#secret")
    secret = page.locator("#secret").inner_text()
    assert secret.startswith("ck_")

    stage.bid(market, tokens=500_000)
    stage.close_call(market)
    stage.deliver(market)
    page = provider.go("/deliveries")
    reload_until(page, lambda now: "hall 9" in now.locator("main").inner_text(), "the delivery")
    contract = page.locator("main tbody tr", has_text="hall 9").locator("a").first.inner_text()
    with Meter(url=stage.instance.base_url, api_key=secret, source="hall-9", spool=str(tmp_path / "spool")) as meter:
        for _ in range(20):
            meter.record(subject=contract, input_tokens=2_000, output_tokens=500, time=stage.now())
        meter.flush(60)
        assert meter.state.rejected_events == 0
    page = provider.go("/meters")
    requests = page.locator("main tbody tr", has_text="hall-9").locator("td[data-label^=Requests]")
    reload_until(page, lambda _: requests.inner_text() == "20", "its events")

    stage.settle(market)
    statement = until(
        lambda: [one for one in stage.provider.client.statements.list() if one.period_start == market.window_start],
        "the statement",
    )[0]
    provider.go("/statements").get_by_role("link", name=statement.number).first.click()
    page.wait_for_selector("tr.total")
    assert page.locator(f"a[href='/contracts/{contract}']").count()
    payouts = provider.go("/payouts").locator("main").inner_text()
    assert "There is no verified bank account" in payouts
    assert not provider.complaints, provider.complaints


def test_a_stranger_sees_none_of_it(visitor, stage, played):
    buyer, own = visitor("buyer", locale="en"), set()
    for listed in ("/overview", "/contracts", "/invoices", "/usage", "/orders", "/claims", "/discrepancies"):
        links = buyer.go(listed).eval_on_selector_all("main a[href]", "all => all.map((one) => one.pathname)")
        own |= {path for path in links if re.search(r"\d", path) and not path.startswith(("/markets", "/v1/"))}
    assert {path.split("/")[1] for path in own} >= {"contracts", "invoices"}
    stranger = visitor("third", locale="en")
    for path in sorted(own):
        answer = stranger.page.request.get(stranger.base_url + path)
        assert answer.status == 404, path
        assert "Lantern" not in answer.text()


def test_what_is_wrong_is_said_at_its_field_and_nothing_is_lost(visitor, stage):
    market = stage.market()
    buyer = visitor("buyer", locale="en")
    page = open_market(buyer, market)
    filled(page, price="1", quantity="1,500")
    page.get_by_role("button", name="Place the order").click()
    page.wait_for_selector("#error_quantity")
    assert "the nearest are" in page.locator("#error_quantity").inner_text()
    assert page.input_value("#id_quantity") == "1,500"
    assert page.get_attribute("#id_quantity", "aria-invalid") == "true"
    # A session that ends meanwhile: after signing in again, what was typed is there.
    page.fill("#id_quantity", "2,000")
    page.context.clear_cookies(name="sessionid")
    page.get_by_role("button", name="Place the order").click()
    page.wait_for_selector("input[name=login]")
    filled(page, login="buyer@stage.example", password=PASSWORD)
    page.press("input[name=password]", "Enter")
    page.wait_for_selector("#id_quantity")
    assert page.input_value("#id_quantity") == "2,000"


def test_the_keyboard_alone_places_an_order(visitor, stage):
    market = stage.market()
    page = open_market(visitor("buyer", locale="en"), market)
    page.focus("#id_quantity")
    page.keyboard.type("1000")
    page.focus("#id_price")
    page.keyboard.type("1")
    page.keyboard.press("Enter")
    page.wait_for_selector(".note.success")
