"""
`make screenshots`: pages in both languages and themes, at a desk and on a phone, into screenshots/ (git ignores it).

A page is opened once a language; theme and width change in place, so that all of it takes a few minutes.
"""

import shutil
from pathlib import Path

import pytest
from ciyuan import Client

from tests.web.stage import until
from tests.web.test_every_page import ROLES, every_page, kind

pytestmark = [pytest.mark.screenshots, pytest.mark.browser, pytest.mark.processes]

FOLDER = Path(__file__).resolve().parents[2] / "screenshots"
CONSOLE = (
    "/admin/", "/admin/exchange/market/", "/admin/identity/organization/", "/admin/identity/organization/1/change/",
    "/admin/identity/auditentry/", "/admin/billing/invoice/", "/admin/providers/grade/", "/admin/billing/account/",
    "/admin/exchange/tradingstop/", "/admin/exchange/tradingstop/add/", "/admin/exchange/tradinglimits/add/",
    "/admin/providers/grade/1/change/", "/admin/billing/billingprofile/", "/admin/identity/user/",
)  # fmt: skip
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 800}
VIEWS = (("light", DESK), ("dark", DESK), ("dark", PHONE), ("light", PHONE))
#: Pages that show something only where something is asked for.
ASKED = ("/quote?grade=story&input_tokens=2,000&output_tokens=500&requests=1,000,000",
         "/standard-token?grade=story&input_tokens=2,000&output_tokens=500", "/usage?days=31&by=contract",
         "/usage?days=31&by=day", "/markets?phase=settled", "/account?account=bond")  # fmt: skip


class Taken(set):
    """Kinds of pages that have their pictures; of accelerators' pages, which are alike, one is enough."""

    def __contains__(self, path):
        alike = "/accelerators/"
        return super().__contains__(path) or (path.startswith(alike) and any(one.startswith(alike) for one in self))


def pictures(window, name, locale, *, again=False):
    """Take the page that is open in every theme and width; `again`: loaded anew for each, where scripts lay it out."""
    page = window.page
    for scheme, size in VIEWS:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size(size)
        if again:
            page.reload()
        folder = FOLDER / f"{locale}-{scheme}-{size['width']}"
        folder.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=folder / f"{name}.png", full_page=True, animations="disabled", caret="initial")
    page.set_viewport_size(DESK)
    page.emulate_media(color_scheme="light")


def named(role, path):
    """The name of a page's pictures."""
    plain = kind(path).replace("/", "-").replace("?", "_").replace("&", "_").strip("-") or "home"
    return f"{role or 'visitor'}-{plain}"


@pytest.fixture(scope="module")
def eventful(stage, played):
    """A day on which things went wrong: a halt, a stopped member, meters that disagree, an objection to a line."""
    market = stage.market()
    stage.offer(market)
    stage.bid(market)
    stage.close_call(market)
    stage.deliver(market)
    stage.use(market)
    contract = next(iter(stage.buyer.client.contracts.list(market=market.id)))
    opened = stage.buyer.client.meters.register(name="gateway-1", role="buyer", idempotency_key="pictures:gateway")
    stage.count_half(Client(opened.secret, stage.instance.base_url), contract.id)
    stage.settle(market)
    until(lambda: list(stage.operator.discrepancies.list(contract=contract.id)), "a discrepancy")
    invoice = next(one for one in stage.buyer.client.invoices.list() if one.kind == "invoice" and one.total >= 1)
    stage.buyer.client.disputes.open(
        invoice.id, line=2, amount="0.20", reason="Answers came cut off.", idempotency_key="pictures:dispute"
    )
    stops = stage.operator.controls
    stops.halt(stage.market().id, reason="meters of two providers are silent", idempotency_key="pictures:halt")
    delivering = stage.market()
    stage.offer(delivering)
    stage.bid(delivering)
    stage.close_call(delivering)
    stage.deliver(delivering)
    stage.use(delivering)
    played.call = stage.market()  # time has gone on
    stage.offer(played.call)
    stage.bid(played.call)
    stops.stop(stage.third.organization, reason="orders in a loop", idempotency_key="pictures:stop")
    return played


@pytest.mark.parametrize("locale", ["zh-CN", "en"])
def test_pictures(visitor, eventful, locale):
    played = eventful
    for folder in FOLDER.glob(f"{locale}-*"):
        shutil.rmtree(folder)
    taken = Taken()
    for role in ROLES:
        window = visitor(role, locale=locale)
        known = Taken(taken)  # a page that was refused to one role is another's to open
        for path in every_page(window, known):
            pictures(window, named(role, path), locale)
            for kinds in (taken, known):
                kinds.add(kind(path))
        for phase, market in vars(played).items() if role in (None, "buyer") else ():
            window.go(f"/markets/{market.id}")
            pictures(window, f"{role or 'visitor'}-market-{phase}", locale)
        for path in {"buyer": ASKED, "operator": CONSOLE}.get(role or "", ()):
            window.go(path)
            pictures(window, named(role, path), locale, again=path.startswith("/admin/"))
    assert len(taken) > 40, taken
