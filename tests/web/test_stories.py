"""What people do here, told in a browser: a halt, a discrepancy, a stranger, an order by keyboard alone."""

import pytest
from ciyuan import Client

from tests.web.stage import PASSWORD, reload_until, until

pytestmark = [pytest.mark.browser, pytest.mark.processes]


def open_market(window, market):
    page = window.go(f"/markets/{market.id}")
    page.wait_for_selector("#ticket")
    return page


def test_the_operator_halts_and_resumes_a_market(visitor, stage):
    market = stage.market()
    watcher = visitor(locale="en")
    watching = watcher.go(f"/markets/{market.id}")
    operator = visitor("operator", locale="en")
    for action, halted in (("halt", True), ("resume", False)):
        page = operator.page
        page.goto(f"{operator.base_url}/admin/exchange/market/?id__exact={market.id}")
        page.locator("input[name=_selected_action]").first.check()
        page.evaluate(
            """(action) => {
                const form = document.getElementById("changelist-form");
                form.querySelector("[name=action]").value = action;
                const index = document.createElement("input");
                index.name = "index"; index.value = "0"; index.type = "hidden";
                form.append(index);
                form.submit();
            }""",
            action,
        )
        page.wait_for_load_state()
        until(lambda halted=halted: stage.operator.markets.get(market.id)["halted"] is halted, f"{action} to be done")
        reload_until(
            watching,
            lambda now, halted=halted: bool(now.locator("h1 .phase.halted").count()) is halted,
            "it to be seen",
        )
    page = operator.page
    page.goto(f"{operator.base_url}/admin/identity/auditentry/")
    assert "market.halt" in page.content()
    assert not watcher.complaints, watcher.complaints


def test_a_discrepancy_is_talked_about_and_decided(visitor, stage):
    market = stage.market()
    stage.offer(market)
    stage.bid(market)
    stage.close_call(market)
    stage.deliver(market)
    stage.use(market)
    contract = next(iter(stage.buyer.client.contracts.list(market=market.id)))
    opened = stage.buyer.client.meters.register(name=f"gateway {market.id}", role="buyer")
    stage.count_half(Client(opened.secret, stage.instance.base_url), contract.id)
    stage.settle(market)
    found = until(lambda: [one.id for one in stage.operator.discrepancies.list(contract=contract.id)], "a discrepancy")[
        0
    ]
    buyer = visitor("buyer", locale="en")
    page = buyer.go(f"/discrepancies/{found}")
    page.fill("#id_text", "Our gateway saw half of these requests. 🙂")
    page.get_by_role("button", name="Send").click()
    page.wait_for_selector("text=Our gateway saw half")
    operator = visitor("operator", locale="en")
    page = operator.go(f"/discrepancies/{found}")
    assert "Our gateway saw half" in page.locator("main").inner_text()
    page.fill("#id_accepted_quantity", "0")
    page.fill("#id_reason", "The buyer's log is right.")
    page.locator("form", has=page.locator("#id_reason")).locator("button[type=submit]").click()
    page.wait_for_selector("text=The decision stands")
    assert stage.operator.discrepancies.get(found)["state"] != "open"
    assert not buyer.complaints and not operator.complaints, (buyer.complaints, operator.complaints)


def test_a_stranger_sees_none_of_it(visitor, stage, played):
    buyer = visitor("buyer", locale="en")
    own = []
    for listed in ("/contracts", "/invoices"):
        own.append(buyer.go(listed).locator("main tbody tr a").first.get_attribute("href"))
    stranger = visitor("third", locale="en")
    for path in own:
        answer = stranger.page.request.get(stranger.base_url + path)
        assert answer.status == 404, path
        assert "Lantern" not in answer.text()


def test_what_is_wrong_is_said_at_its_field_and_nothing_is_lost(visitor, stage):
    market = stage.market()
    buyer = visitor("buyer", locale="en")
    page = open_market(buyer, market)
    page.fill("#id_price", "1")
    page.fill("#id_quantity", "1,500")
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
    page.fill("input[name=login]", "buyer@stage.example")
    page.fill("input[name=password]", PASSWORD)
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
