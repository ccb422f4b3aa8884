"""The pages in a real browser, on a market that lives: what people do there, and what a page must never do."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe

pytestmark = [pytest.mark.browser, pytest.mark.processes]

PUBLIC = ("/", "/markets", "/auctions", "/accounts/login/", "/accounts/signup/")
BUYERS = (
    "/overview",
    "/orders",
    "/contracts",
    "/meters",
    "/usage",
    "/usage/rejected",
    "/invoices",
    "/account",
    "/organization",
)
PROVIDERS = (
    "/overview",
    "/deployments",
    "/deployments/new",
    "/capacity",
    "/capacity/new",
    "/deliveries",
    "/statements",
)
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}


def looked_through(window, paths):
    """What axe finds on these pages, page by page."""
    found = {}
    for path in paths:
        page = window.go(path)
        result = Axe().run(page, options=RULES)
        if result.response["violations"]:
            found[path] = [
                (one["id"], [node["html"][:120] for node in one["nodes"][:3]]) for one in result.response["violations"]
            ]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path} is wider than the window"
    assert not window.complaints, window.complaints
    return found


def a_market_in_call(window, seconds=25):
    """Open a market whose call stays open for some seconds yet."""
    page = window.page
    for _ in range(120):
        window.go("/markets?phase=call")
        left = page.evaluate(
            """() => {
                const now = Date.parse(document.querySelector("meta[name=product-time]").content);
                return [...document.querySelectorAll("main table tr")]
                    .filter((row) => row.querySelector("[data-countdown]"))
                    .map((row) => [
                        (Date.parse(row.querySelector("[data-countdown]").dataset.countdown) - now) / 1000,
                        row.querySelector("a[href^='/markets/']").getAttribute("href"),
                    ]);
            }"""
        )
        good = [path for remaining, path in left if remaining >= seconds]
        if good:
            window.go(good[0])
            return
        page.wait_for_timeout(1_000)
    raise AssertionError("no call stayed open long enough")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("locale", ["zh-CN", "en"])
def test_axe_finds_nothing_and_no_page_complains(visitor, locale, scheme):
    assert looked_through(visitor(locale=locale, scheme=scheme), PUBLIC) == {}
    buyer = visitor("buyer", locale=locale, scheme=scheme)
    a_market_in_call(buyer)
    market = buyer.page.url.removeprefix(buyer.base_url)
    assert looked_through(buyer, (*BUYERS, market)) == {}
    assert looked_through(visitor("provider", locale=locale, scheme=scheme), PROVIDERS) == {}


def test_it_is_usable_on_a_phone(visitor):
    phone = visitor("buyer", width=360)
    a_market_in_call(phone)
    looked_through(phone, (phone.page.url.removeprefix(phone.base_url), *BUYERS))


def test_a_buyer_orders_watches_it_clear_and_downloads_the_invoice(visitor):
    buyer = visitor("buyer", locale="en")
    a_market_in_call(buyer)
    page = buyer.page
    cap = re.search(r"cap ¥([\d,.]+)", page.locator("#hint_price").inner_text()).group(1)
    page.fill("#id_price", cap)
    page.fill("#id_quantity", "１０，０００")
    page.wait_for_selector("#estimate b")
    assert "Held until" in page.locator("#estimate").inner_text()
    page.get_by_role("button", name="Place the order").click()
    page.wait_for_selector(".note.success")
    assert "Buy order for 10,000 tokens accepted." in page.locator(".note.success").inner_text()
    page.go_back()
    page.go_forward()
    assert page.locator("#live tbody tr").count() >= 1

    # The page follows the market by itself: the call closes, the result and its reason stand there.
    page.wait_for_selector(".why", timeout=120_000)
    assert "Why this price." in page.locator(".why").inner_text()
    assert "filled" in page.locator("#live").inner_text()

    buyer.go("/contracts")
    assert page.locator("main tbody tr").count() >= 1
    for _ in range(120):
        buyer.go("/invoices")
        if page.locator("main tbody tr").count():
            break
        page.wait_for_timeout(1_000)
    page.locator("main tbody tr a").first.click()
    with page.expect_download() as downloaded:
        page.locator("a[href$='.pdf']").first.click()
    assert downloaded.value.path().read_bytes().startswith(b"%PDF-")
    assert not buyer.complaints, buyer.complaints


def test_what_is_wrong_is_said_at_its_field_and_nothing_is_lost(visitor):
    buyer = visitor("buyer", locale="en")
    a_market_in_call(buyer)
    page = buyer.page
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
    page.fill("input[name=login]", "buyer@demo.ciyuan.example")
    page.fill("input[name=password]", "demo-ciyuan-2026")
    page.press("input[name=password]", "Enter")
    page.wait_for_selector("#id_quantity")
    assert page.input_value("#id_quantity") == "2,000"


def test_a_provider_publishes_and_opens_a_meter(visitor):
    provider = visitor("provider", locale="en")
    page = provider.go("/meters")
    page.fill("#id_name", "browser-meter")
    page.select_option("#id_deployment", index=1)
    page.get_by_role("button", name="Open").click()
    assert page.locator("#secret").inner_text().startswith("ck_")
    provider.go("/capacity/new")
    assert page.locator("#id_market option").count() >= 1
    assert not provider.complaints, provider.complaints


def test_the_keyboard_alone_places_an_order(visitor):
    buyer = visitor("buyer", locale="en")
    a_market_in_call(buyer)
    page = buyer.page
    page.focus("#id_quantity")
    page.keyboard.type("1000")
    page.focus("#id_price")
    page.keyboard.type("1")
    page.keyboard.press("Enter")
    page.wait_for_selector(".note.success, .field-error, .note.error")
