"""
What pages say of problems: the sentences that members meet, in the reader's language, with their figures.

Problems are made in English, for the API; on pages in another language the same sentence is found here by its words and
its figures are put into the translation. A sentence that is not listed is said as the API says it.
"""

import re
from functools import cache

from django.utils.translation import get_language, gettext
from django.utils.translation import gettext_noop as _

# fmt: off
SENTENCES = (
    _("%(email)s belongs to %(organization)s already, as %(role)s."),
    _("This is the last owner: make somebody else an owner first."),
    _("You act for %(organization)s already. Its owner adds further members."),
    _("Version %(version)s of the rulebook is in force now. Read it, then accept it."),
    _("name is printable ASCII; put the Chinese name into name_zh."),
    _("An organization has at most %(n)s webhooks. Delete one first."),
    _("This webhook is switched off; switch it on first."),
    _("A key needs a name, so that you recognise it later."),
    _("This key has ended; make a new one."),
    _("This organization is suspended: it can read, but not trade. Ask the operator."),
    _("%(deployment)s is retired and offers nothing."),
    _("The grade %(grade)s is retired and takes no new capacity."),
    _("The grade %(grade)s is retired and takes no new deployments."),
    _("The reserve price ¥%(reserve)s is above the list price ¥%(listed)s."),
    _("All of this capacity was withdrawn before."),
    _("quantity is whole lots of %(lot)s tokens."),
    _("quantity is a positive number of whole lots of %(lot)s standard tokens."),
    _("%(sold)s of %(offered)s tokens are sold: at most %(free)s can be withdrawn."),
    _("tokens_per_minute is above zero."),
    _(
        "%(deployment)s may offer %(limit)s standard tokens a minute, by 90%% of its certificate; %(asked)s "
        "are asked for."
    ),
    _("%(deployment)s may offer %(limit)s standard tokens a minute, by its rating; %(asked)s are asked for."),
    _("%(rate)s standard tokens a minute make at most %(most)s in this window; %(asked)s are offered."),
    _("%(deployment)s offers capacity %(capacity)s from %(start)s to %(end)s UTC already. Withdraw it first."),
    _("Only providers register deployments; this organization is registered as a buyer."),
    _("There is a deployment named %(deployment)s already."),
    _("endpoint is an address such as https://host/v1, in ASCII."),
    _("endpoint is no address; write https://host/path."),
    _("endpoint has no usable port."),
    _("endpoint carries no user, password, query or fragment."),
    _("endpoint is https://; plain http only within a private network."),
    _("accelerator_count is from 1 to %(most)s."),
    _("rated_tokens_per_minute is above zero."),
    _("The grade %(grade)s is served in %(precisions)s, not in %(precision)s."),
    _("The grade %(grade)s is served from %(region)s or a part of it, such as %(part)s-north."),
    _(
        "%(count)s × %(accelerator)s can do at most %(most)s standard tokens a minute of %(model)s, by their "
        "published numbers; %(claimed)s are claimed."
    ),
    _("%(accelerator)s computes in %(known)s: it cannot serve %(precision)s."),
    _("%(model)s in %(precision)s needs the memory of at least %(needed)s × %(accelerator)s; %(named)s are named."),
    _("A price is above zero."),
    _("¥%(price)s is off the tick of ¥%(tick)s; nearest are ¥%(below)s and ¥%(above)s a token."),
    _("It has capacity until %(end)s UTC. Withdraw that, or wait for its end."),
    _("Trading for this window is over; offer the next one."),
    _("This market is of another grade than the deployment serves."),
    _("You can offer %(free)s more tokens here: capacity and position less open sell orders."),
    _("All of this capacity is sold. After gate closure, report what you cannot deliver as a shortfall."),
    _("You exclude %(n)s providers already; readmit one of them first."),
    _("The markets of a request's blocks must share one call: its end, tick and margin rule."),
    _("A block has 1 to %(most)s legs, each in another market."),
    _("Prices here are multiples of %(tick)s ¥/token."),
    _("The limit is above the cap of all its markets."),
    _("Blocks are taken in a call; market %(market)s is %(phase)s."),
    _("This block's call has been cleared: it was %(outcome)s."),
    _("The operator has stopped this organization's trading; orders can be cancelled."),
    _("Invoices of this organization are overdue: orders can be cancelled, and are taken again once it has paid."),
    _("This order is a leg of a block: withdraw the block."),
    _("These options of the order exclude each other: leave one out."),
    _("A post-only order rests: it is no market, ioc or fok order."),
    _("This market has no continuous session."),
    _("An auction-only order is a limit or market order that rests."),
    _("A post-only order has no minimum fill."),
    _("An ioc or fok order is a limit or market order."),
    _("An iceberg is an order that rests and may fill in parts."),
    _("The largest order is %(most)s tokens."),
    _("Your limit for one order is %(most)s tokens."),
    _("Your limit for the value of one order is ¥%(most)s."),
    _("Your limit for the position in one market is %(most)s tokens; with your open orders this makes %(reached)s."),
    _("Your limit is %(n)s orders a minute; send fewer."),
    _("An account number has 6 to 34 digits or capital letters."),
    _("The holder must be the organization itself, by its registered name."),
    _("The organization has this account already."),
    _("A tax invoice's number has 20 digits."),
    _("A tax invoice's total is above zero and its tax not below."),
    _("This statement has its tax invoice already, or this number stands on another statement."),
    _("This is no taxpayer's number: 18 characters with a check character, or 15, 17 or 20 of the older kinds."),
    _("A special tax invoice (81) needs a tax number."),
    _("Another title is asked for by month already; remove it first."),
    _("This invoice has no such line."),
    _("Only what charges for a taxable service can be disputed."),
    _("Of this line ¥%(left)s can be disputed, in whole fen."),
    _("A dispute about this line is open already."),
    _("Credit ¥0 to ¥%(most)s, in whole fen."),
    _("Say why; the buyer reads it."),
    _("A special tax invoice (81) needs a title with a tax number."),
    _("Name 1 to %(most)s invoices."),
    _("Nothing of these documents is a taxable service."),
    _("One of these documents has its tax invoice already."),
    _("%(number)s is a credit note; it goes with what it corrects."),
    _("%(number)s was withdrawn."),
    _("Whoever requested a payout does not approve it: somebody else must."),
    _("Whoever proposed the close does not close it: somebody else must."),
    _("Months are closed in order; the next is %(due)s."),
    _("Months up to %(last)s are closed."),
    _("%(month)s can be closed from %(day)s on; usage may come late until then."),
    _("%(month)s is not over; its statement still changes."),
    _("The statement has changed since you read it; read it again."),
    _("Say what is wrong with the statement."),
    _("A bundle costs more than ¥0."),
    _("A bundle pays for at least as much usage as it costs."),
    _("A bundle is good for 1 to %(most)s days."),
    _("This line is %(state)s already."),
    _("There is no organization %(number)s."),
    _("You have a meter called “%(name)s” already; choose another name."),
    _("A buyer's meter belongs to a buyer and to no deployment."),
    _("A provider's or an engine's meter measures one of its own deployments."),
    _("A budget of the whole organization names no key and no tag."),
    _("Name the key, or the tag and its value."),
    _("alert_thousandths are from 1 to 2,000."),
    _("An organization has at most %(most)s budgets."),
    _("This is limited already; change that budget instead."),
    _("requests are 1 to %(most)s ids, each named once."),
    _("Claimed before: %(ids)s."),
    _("quantity is a positive number of standard tokens."),
    _("quantity is from 1 to the %(most)s tokens claimed."),
    _("A provider accepts a claim whole; the operator decides on a part of it."),
    _("What is rejected has no quantity."),
    _("This claim is decided already."),
    _("This finding is decided already."),
    _("You have objected to this finding already."),
    _("The settlement of this window is final."),
    _("Write something, or attach a file."),
    _("A file may have up to 1 MiB."),
    _("This discrepancy is not open: it was decided, or the meters agree meanwhile."),
    _(
        "Accept from 0 to %(most)s tokens, what the provider reported. More is not billed unless the "
        "provider reports it."
    ),
    _("Say why, in 1 to %(most)s characters."),
    _("This Idempotency-Key was used before with other content. Use a new key for a new request."),
    _(
        "This needs ¥%(needed)s, and available has ¥%(free)s free. Deposit the difference, or cancel orders "
        "that hold money."
    ),
    _("A request of %(grade)s has up to %(context)s tokens in all, %(output)s of them output."),
    _("This needs the scope “%(scope)s” (%(meaning)s); the key or role has not got it."),
)
# fmt: on
PLACE = re.compile(r"%\\\((\w+)\\\)s")


def in_readers_language(detail: str) -> str:
    """Return the sentence of a problem in the reader's language, its figures kept."""
    if (get_language() or "en").startswith("en"):
        return detail
    for sentence, pattern in _patterns():
        if found := pattern.fullmatch(detail):
            return gettext(sentence) % found.groupdict() if found.groupdict() else gettext(sentence)
    return detail


@cache
def _patterns() -> tuple[tuple[str, "re.Pattern[str]"], ...]:
    """Return each sentence with what finds it: the one with the most words of its own first."""
    longest = sorted(SENTENCES, key=lambda sentence: -len(re.sub(r"%\(\w+\)s", "", sentence)))
    found = ((one, PLACE.sub(r"(?P<\1>.+?)", re.escape(one)).replace("%%", "%")) for one in longest)
    return tuple((one, re.compile(pattern, re.DOTALL)) for one, pattern in found)
