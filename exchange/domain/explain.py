"""
Why an auction cleared where it did, in sentences.

`explain` turns a determination into the sentences that a page shows; each is a message id with its figures still as
ticks and lots, so that the page chooses the language and how prices and quantities look:

    [sentence.text(gettext, price=as_yuan, quantity=as_tokens) for sentence in explain(determination)]
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from exchange.domain.auction import Determination, Narrowing, Rule


def gettext_noop(message: str) -> str:
    """Mark a message for the catalogue; the page translates it."""
    return message


@dataclass(frozen=True, slots=True)
class Sentence:
    """One step of the reasoning: a message id and its figures by name."""

    code: str
    msgid: str
    ticks: dict[str, int] = field(default_factory=dict)
    lots: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def text(
        self, translate: Callable[[str], str], *, price: Callable[[int], str], quantity: Callable[[int], str]
    ) -> str:
        """Return the sentence in the reader's language, prices and quantities formatted by the functions given."""
        figures: dict[str, str | int] = {name: price(tick) for name, tick in self.ticks.items()}
        figures.update((name, quantity(lots)) for name, lots in self.lots.items())
        figures.update(self.counts)
        return translate(self.msgid) % figures


def explain(determination: Determination) -> list[Sentence]:
    """Return the reasoning, one sentence for each rule that was applied; the last one names what decided."""
    sentences = [_VOLUME_AND_SURPLUS[step.rule](step) for step in determination.narrowings]
    match determination.rule:
        case Rule.HIGHEST_VOLUME | Rule.SMALLEST_SURPLUS:
            return sentences
        case Rule.ONLY_MARKET_ORDERS | Rule.NOTHING_EXECUTABLE:
            return [*sentences, _without_candidates(determination)]
        case _:
            return [*sentences, _tie(determination, determination.narrowings[-1])]


def _by_volume(step: Narrowing) -> Sentence:
    low, high, next_best = step.lowest, step.highest, step.runner_up
    ticks, lots = {"price": low.tick, "highest": high.tick}, {"volume": low.volume_lots}
    if step.kept > 1:
        if step.kept == 2:
            return Sentence(
                "volume_tied_by_two", gettext_noop("%(price)s and %(highest)s would both trade %(volume)s, the most."),
                ticks, lots)
        return Sentence(
            "volume_tied",
            gettext_noop("%(count)s prices from %(price)s to %(highest)s would each trade %(volume)s, the most."),
            ticks, lots, {"count": step.kept})
    if next_best is None:
        return Sentence(
            "only_price", gettext_noop("%(price)s is the only limit in the book; %(volume)s trade there."),
            {"price": low.tick}, lots)
    return Sentence(
        "highest_volume",
        gettext_noop("At %(price)s the most trades: %(volume)s; the next best, %(next)s, would trade %(next_volume)s."),
        {"price": low.tick, "next": next_best.tick}, lots | {"next_volume": next_best.volume_lots})


def _by_surplus(step: Narrowing) -> Sentence:
    low, high, next_best = step.lowest, step.highest, step.runner_up
    lots = {"surplus": abs(low.surplus_lots)}
    if step.kept == 1 and next_best is not None:
        return Sentence(
            "smallest_surplus",
            gettext_noop("Of these, %(price)s leaves least over: %(surplus)s; %(next)s would leave %(next_surplus)s."),
            {"price": low.tick, "next": next_best.tick}, lots | {"next_surplus": abs(next_best.surplus_lots)})
    if next_best is None and low.surplus_lots == 0:
        return Sentence("surplus_none", gettext_noop("At each of them nothing is left over."))
    if next_best is None:
        return Sentence("surplus_equal", gettext_noop("Each of them leaves equally much over: %(surplus)s."), {}, lots)
    return Sentence(
        "surplus_tied",
        gettext_noop("Of these, %(count)s leave least over, from %(price)s to %(highest)s: %(surplus)s."),
        {"price": low.tick, "highest": high.tick}, lots, {"count": step.kept})


_VOLUME_AND_SURPLUS = {Rule.HIGHEST_VOLUME: _by_volume, Rule.SMALLEST_SURPLUS: _by_surplus}


def _tie(determination: Determination, step: Narrowing) -> Sentence:
    assert determination.price_tick is not None
    ticks = {"price": determination.price_tick}
    match determination.rule:
        case Rule.BID_SURPLUS:
            return Sentence(
                "bid_surplus", gettext_noop("At each of them buyers are left over, so the highest decides: %(price)s."),
                ticks)
        case Rule.ASK_SURPLUS:
            return Sentence(
                "ask_surplus", gettext_noop("At each of them sellers are left over, so the lowest decides: %(price)s."),
                ticks)
        case Rule.NEAREST_TO_REFERENCE:
            assert determination.reference_tick is not None
            return Sentence(
                "nearest_to_reference",
                gettext_noop("The one nearest to the reference price %(reference)s decides: %(price)s."),
                ticks | {"reference": determination.reference_tick})
        case _:
            return Sentence(
                "middle",
                gettext_noop("There is no reference price, so the middle of the two decides, rounded up: %(price)s."),
                ticks)


def _without_candidates(determination: Determination) -> Sentence:
    best_bid, best_ask = determination.best_bid_tick, determination.best_ask_tick
    if determination.price_tick is not None:
        return Sentence(
            "only_market_orders",
            gettext_noop("There are only market orders, so they trade at the reference price %(price)s: %(volume)s."),
            {"price": determination.price_tick}, {"volume": determination.volume_lots})
    if best_bid is not None and best_ask is not None:
        return Sentence(
            "not_crossed",
            gettext_noop("Nothing trades: the highest bid, %(bid)s, is below the lowest offer, %(ask)s."),
            {"bid": best_bid, "ask": best_ask})
    if best_bid is not None or (determination.market_bid_lots and not determination.market_ask_lots):
        return Sentence("no_offers", gettext_noop("Nothing trades: there are bids but no offers."))
    if best_ask is not None or (determination.market_ask_lots and not determination.market_bid_lots):
        return Sentence("no_bids", gettext_noop("Nothing trades: there are offers but no bids."))
    if determination.market_bid_lots:
        return Sentence(
            "no_reference", gettext_noop("Nothing trades: there are only market orders and no reference price."))
    return Sentence("empty", gettext_noop("Nothing trades: there are no orders."))
