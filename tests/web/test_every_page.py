"""
Every page that a link or an address leads to, in both languages, light and dark, at a desk and on a phone: it is there,
axe finds nothing, nothing complains, nothing asks another host, nothing is wider than the window.
"""

import re
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.urls import get_resolver

pytestmark = [pytest.mark.browser, pytest.mark.processes]

WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
EVERYTHING = {"runOnly": WCAG, "resultTypes": ["violations"]}
#: What another theme may change, of a page in which everything else was looked at.
COLOURS = {
    "runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]},
    "resultTypes": ["violations"],
}
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 900}
ELSEWHERE = ("/v1/", "/admin", "/accounts", "/docs", "/i18n", "/static", "/metrics", "/healthz", "/readyz", "/.well")
#: Providers first: what buyers may open too, such as capacity, is filled for them.
ROLES = (None, "provider", "buyer", "operator")
#: Pages that show each role something else.
OF_EACH = {
    "/overview", "/markets/N", "/contracts/N", "/organization", "/fees", "/rules", "/account", "/invoices",
    "/discrepancies", "/contracts/N/service",
}  # fmt: skip
#: The console's pages that operators work on: today at a glance, lists, a form to change something, the log.
CONSOLE = (
    "/admin/", "/admin/exchange/market/", "/admin/exchange/tradingstop/add/", "/admin/identity/organization/",
    "/admin/identity/organization/1/change/", "/admin/identity/auditentry/", "/admin/billing/invoice/",
    "/admin/billing/billingprofile/add/", "/admin/exchange/surveillancefinding/",
)  # fmt: skip


def addresses():
    """Every page without a parameter, as the resolver knows it."""
    for pattern in get_resolver().url_patterns:
        address = "/" + str(pattern.pattern)
        plain = not hasattr(pattern, "url_patterns") and not pattern.pattern.converters
        if plain and not address.startswith(ELSEWHERE):
            yield address
    yield from ("/accounts/login/", "/accounts/signup/", "/accounts/password/reset/")


def kind(path):
    """The path with N for what is a number or an id in it."""
    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|(?<=/)\d+", "N", path)


def every_page(window, seen):
    """
    Open each kind of page once: all addresses, and where their links lead.

    :param seen: the kinds that were opened before, as another role; those opened here are added.
    """
    waiting, asked = [(address, "") for address in addresses()], set()
    while waiting:
        path, linked_by = waiting.pop(0)
        if kind(path) in asked or (kind(path) in seen and kind(path) not in OF_EACH):
            continue
        asked.add(kind(path))
        answer = window.page.request.get(window.base_url + path, max_redirects=0)
        if answer.status in (302, 403, 405) or (answer.status == 404 and not linked_by):
            continue  # not this role's, or a form's target
        assert answer.status == 200, f"{path}: {answer.status}, linked by {linked_by}"
        if "text/html" not in answer.headers.get("content-type", ""):
            continue  # a file
        page = window.go(path)
        seen.add(kind(path))
        links = page.eval_on_selector_all("main a[href], footer a[href]", "all => all.map((one) => one.href)")
        for link in links:
            to = urlsplit(link)
            if link.startswith(window.base_url) and not to.path.startswith(ELSEWHERE):
                waiting.append((to.path, path))
        yield path


def violations(page, options=EVERYTHING):
    """What axe finds: the rule, and the elements."""
    found = Axe().run(page, options=options).response["violations"]
    return [(one["id"], [node["html"][:120] for node in one["nodes"][:3]]) for one in found]


def wider(page):
    """What sticks out of the window at its right."""
    return page.evaluate(
        """() => document.documentElement.scrollWidth <= innerWidth ? [] : ["the page",
            ...[...document.querySelectorAll("main *, header *, footer *")]
                .filter((one) => one.getBoundingClientRect().right > innerWidth + 1).slice(0, 3)
                .map((one) => one.outerHTML.slice(0, 100))]"""
    )


def looked_at(page):
    """What is wrong with the page that is open, in either theme, at a desk and on a phone."""
    wrong = violations(page)
    page.emulate_media(color_scheme="dark")
    wrong += [("dark", one) for one in violations(page, COLOURS)]
    page.emulate_media(color_scheme="light")
    wrong += [("wider than the window", one) for one in wider(page)]
    page.set_viewport_size(PHONE)
    wrong += [("wider than a phone", one) for one in wider(page)]
    page.set_viewport_size(DESK)
    return wrong


@pytest.mark.parametrize("locale", ["zh-CN", "en"])
def test_no_page_complains_and_every_one_fits(visitor, stage, played, locale):
    seen, found = set(), {}
    for role in ROLES:
        window = visitor(role, locale=locale)
        for path in every_page(window, seen):
            if wrong := looked_at(window.page):
                found[f"{role} {path}"] = wrong
        for phase, market in vars(played).items() if role in (None, "buyer") else ():
            if wrong := looked_at(window.go(f"/markets/{market.id}")):
                found[f"{role} market {phase}"] = wrong
        assert not window.complaints, window.complaints
    assert found == {}
    assert len(seen) > 60, sorted(seen)


@pytest.mark.parametrize("locale", ["zh-CN", "en"])
def test_the_console_is_for_everybody(visitor, stage, played, locale):
    window = visitor("operator", locale=locale)
    found = {path: wrong for path in CONSOLE if (wrong := violations(window.go(path)))}
    assert not window.complaints, window.complaints
    assert found == {}
