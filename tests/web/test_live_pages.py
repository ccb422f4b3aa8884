"""Two browsers look at one market: both see the same within a second, and both recover when the server was away."""

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.processes]

#: When a text stood in the page, by the machine's clock.
SEEN = """(text) => { window.seen = new Promise((resolve) => {
    const look = () => document.querySelector("main").innerText.includes(text) && resolve(Date.now());
    look();
    new MutationObserver(look).observe(document.body, {childList: true, subtree: true, characterData: true});
}); }"""


def test_two_browsers_see_the_same_book_within_a_second_and_recover(visitor, stage):
    market = stage.trading()
    windows = [visitor("buyer", locale="en"), visitor(locale="en")]
    for window in windows:
        window.go(f"/markets/{market.id}")
        window.page.wait_for_selector("html[data-live=socket]")
    for number in range(3):
        text = f"¥0.{71 + number}"
        for window in windows:
            assert text not in window.page.locator("main").inner_text()
            window.page.evaluate(SEEN, text)
        stage.third.client.orders.buy(
            market.id, quantity=3_000, price=f"0.000000{71 + number}", idempotency_key=f"seen:{market.id}:{number}"
        )
        times = [window.page.evaluate("window.seen") for window in windows]
        assert abs(times[0] - times[1]) <= 1_000, times
    books = [window.page.locator("table.ladder").inner_text() for window in windows]
    assert books[0] == books[1]
    for window in windows:
        assert not window.complaints, window.complaints

    # The web process dies and comes back: the pages are live again, with what happened meanwhile.
    stage.instance.kill9("web")
    for window in windows:
        window.page.wait_for_selector("html[data-live=polling]")
    stage.instance.restart("web")
    stage.instance.wait_ready(240)
    stage.third.client.orders.buy(
        market.id, quantity=3_000, price="0.00000077", idempotency_key=f"seen:{market.id}:after"
    )
    for window in windows:
        window.page.get_by_text("¥0.77").first.wait_for()
        window.page.wait_for_selector("html[data-live=socket]")


def test_a_provider_drags_over_free_windows_and_publishes_in_each(visitor, stage):
    markets = [stage.market() for _ in range(3)]
    window = visitor("provider", locale="en")
    page = window.go("/capacity")
    deployment = stage.supplies["story"][0].deployment
    slots = [page.locator(f'label.slot:has([value="{deployment}:{market.id}"])') for market in markets]
    boxes = [slot.locator("input") for slot in slots]

    def drag(first, last):
        first.hover()
        page.mouse.down()
        last.hover()
        page.mouse.up()

    drag(slots[0], slots[2])
    assert [box.is_checked() for box in boxes] == [True] * 3
    assert "Windows chosen: 3 · hours: 1.5" in page.locator("form.calendar output").inner_text()
    drag(slots[2], slots[2])  # a click is the shortest drag
    boxes[1].focus()
    page.keyboard.press("Space")
    assert [box.is_checked() for box in boxes] == [True, False, False]
    page.keyboard.press("Space")
    page.fill("form.calendar [name=tokens_per_minute]", "2,000")
    page.fill("form.calendar [name=reserve_price]", "1.0")
    page.fill("form.calendar [name=list_price]", "2.8")
    page.get_by_role("button", name="Publish in the chosen windows").click()
    assert "Windows in which capacity is published: 2." in page.locator("main [role=status]").first.inner_text()
    assert [boxes[number].count() for number in range(3)] == [0, 0, 1]
    assert not window.complaints, window.complaints
