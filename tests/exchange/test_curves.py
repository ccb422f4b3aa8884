from hypothesis import given
from hypothesis import strategies as st

from exchange.charts import auction_chart
from exchange.domain.curves import Level, curves

orders = st.lists(st.tuples(st.none() | st.integers(1, 50), st.integers(1, 10**9)), max_size=30)


def test_demand_falls_and_supply_rises_with_market_orders_everywhere():
    levels = curves([(202, 200), (201, 200), (200, 300), (None, 5)], [(200, 100), (198, 200), (197, 400)])
    assert levels == [
        Level(197, 705, 400),
        Level(198, 705, 600),
        Level(200, 705, 700),
        Level(201, 405, 700),
        Level(202, 205, 700),
    ]


@given(orders, orders)
def test_each_level_is_the_sum_it_says(bids, asks):
    for level in curves(bids, asks):
        assert level.demand_tokens == sum(q for p, q in bids if p is None or p >= level.price_nano)
        assert level.supply_tokens == sum(q for p, q in asks if p is None or p <= level.price_nano)


@given(orders, orders)
def test_a_chart_stays_in_its_frame(bids, asks):
    chart = auction_chart(curves(bids, asks), price_nano=None, volume_tokens=0)
    if chart is not None:
        assert all(64 <= mark.at <= 880 for mark in chart.price_marks)
        assert all(20 <= mark.at <= 281 for mark in chart.quantity_marks)
        assert 2 <= len(chart.quantity_marks) <= 12
