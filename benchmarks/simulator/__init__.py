"""
A simulated market on the real book, whose flow shows what real order books show: `python -m benchmarks.simulator`.

Agents (`agents`) send commands to the product's own order book; what happens is measured (`measures`), compared with
what is known of real markets, and shown as tables and plots (`report`).
"""
