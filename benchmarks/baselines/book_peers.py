"""
The order books of PyPI, each driven as its author's documentation does, on messages that were prepared beforehand.

Runs in the peers' environment, so it imports nothing of the product: `python book_peers.py NAME FLOW.json` reads the
messages, then answers each line on its input by one JSON line: seconds of one run over all messages, and what traded.
"""

import gc
import importlib
import json
import sys
import time
import zlib
from pathlib import Path

BUY = 0


def nanobook(messages):
    from nanobook import Exchange

    sides = ("buy", "sell")
    rows = [(cancel, number, sides[side], price, lots) for cancel, number, side, price, lots in messages]
    exchange = Exchange()
    submit, cancel_order, ids = exchange.submit_limit, exchange.cancel, {}

    def run():
        for cancel, number, side, price, lots in rows:
            if cancel:
                cancel_order(ids[number])
            else:
                ids[number] = submit(side, price, lots).order_id

    return run, lambda: [(trade.price, trade.quantity) for trade in exchange.trades() if trade.quantity]


def limit_order_book(messages):
    from limit_order_book import LimitOrderBook

    rows = [(cancel, number, side == BUY, price, lots) for cancel, number, side, price, lots in messages]
    book = LimitOrderBook()
    limit, cancel_order = book.limit, book.cancel

    def run():
        for cancel, number, side, price, lots in rows:
            if cancel:
                cancel_order(number)
            else:
                limit(side, number, lots, price)

    return run, lambda: None  # it does not show trades


def cython_orderbook(messages):
    from decimal import Decimal

    from cython_orderbook import Order, OrderBook, OrderSide

    sides = (OrderSide.BID, OrderSide.ASK)
    prices = {price: Decimal(price) for _, _, _, price, _ in messages}
    rows = [(cancel, number, sides[side], prices[price], lots) for cancel, number, side, price, lots in messages]
    book, ids = OrderBook(), {}

    def run():
        for cancel, number, side, price, lots in rows:
            if cancel:
                book.cancel_order(ids[number])
            else:
                order = Order(side=side, price=price, original_quantity=lots)
                book.add_limit_order(order)
                ids[number] = order.order_id

    return run, lambda: [(int(trade.price), trade.quantity_filled) for trade in book.trade_log]


def liquibook(messages):
    import liquibook as lib

    class Listener(lib.OrderListener):
        def __init__(self):
            lib.OrderListener.__init__(self)

        def on_fill(self, order, matched_order, fill_qty, fill_cost):
            trades.append((fill_cost, fill_qty))  # the cost is the price of one

        def on_accept(self, order):
            pass

        def on_cancel(self, order):
            pass

    rows = [(cancel, number, side == BUY, price, lots) for cancel, number, side, price, lots in messages]
    trades, orders, listener, book = [], {}, Listener(), lib.DepthOrderBook()
    book.set_order_listener(listener)

    def run():
        for cancel, number, side, price, lots in rows:
            if cancel:
                book.cancel(orders[number])
            else:
                orders[number] = order = lib.SimpleOrder(side, price, lots)
                book.add(order)

    run.listener = listener  # the book does not keep it alive
    return run, lambda: trades


PEERS = {
    "nanobook": nanobook, "limit-order-book": limit_order_book, "cython-orderbook": cython_orderbook,
    "liquibook": liquibook,
}  # fmt: skip


def digest(trades):
    """Return (number of trades, lots traded, checksum of price and lots of each), or None where none are shown."""
    if trades is None:
        return None
    return len(trades), sum(lots for _, lots in trades), zlib.crc32(repr(trades).encode())


def main(name, path):
    importlib.import_module(name.replace("-", "_"))
    messages = json.loads(Path(path).read_text())
    print("ready", flush=True)
    for _ in sys.stdin:
        run, trades = PEERS[name](messages)
        gc.collect()
        gc.disable()
        start = time.perf_counter()
        run()
        seconds = time.perf_counter() - start
        gc.enable()
        print(json.dumps({"seconds": seconds, "traded": digest(trades())}), flush=True)
        del run, trades


if __name__ == "__main__":
    main(*sys.argv[1:])
