"""
The exchange's API by resource: `client.markets.list()`, `client.orders.buy(…)`, `client.invoices.pdf(7)`.

Prices are ¥ per standard token and amounts ¥, given as `Decimal` or text ("0.0035"); floats are refused. Quantities are
standard tokens; times are aware datetimes. Every write takes `idempotency_key`; without one it makes its own.
"""

from ciyuan.resources.blocks import Blocks, Reservations, block_body
from ciyuan.resources.budgets import Authorizations, Budgets
from ciyuan.resources.delivery import Claims, Exclusions, Service, Shortfalls
from ciyuan.resources.disputes import Disputes
from ciyuan.resources.finance import Finance
from ciyuan.resources.metering import Discrepancies, Events, Exports, Manifests, Meters, UsageQueries
from ciyuan.resources.money import Account, Deposits, Invoices, Statements
from ciyuan.resources.parties import Keys, Organizations
from ciyuan.resources.payments import Bank, CardPayments, Payouts
from ciyuan.resources.quotes import Quotes
from ciyuan.resources.safeguards import Controls, Leases, Limits
from ciyuan.resources.supply import Accelerators, Capacities, Certificates, Deployments, Grades, Models
from ciyuan.resources.taxes import TaxInvoices
from ciyuan.resources.trading import Auctions, Contracts, Deliveries, Markets, Orders, Positions, Trades, order_body
from ciyuan.resources.values import Money, Side, decimal_text, time_text
from ciyuan.resources.webhooks import Webhooks

__all__ = [
    "Accelerators", "Account", "Auctions", "Authorizations", "Bank", "Blocks", "Budgets", "Capacities",
    "CardPayments", "Certificates", "Claims", "Contracts", "Controls", "Deliveries", "Deployments", "Deposits",
    "Discrepancies", "Disputes", "Events", "Exclusions", "Exports", "Finance", "Grades", "Invoices", "Keys", "Leases",
    "Limits", "Manifests", "Markets", "Meters", "Models", "Money", "Orders", "Organizations", "Payouts", "Positions",
    "Quotes", "Reservations", "Service", "Shortfalls", "Side", "Statements", "TaxInvoices", "Trades", "UsageQueries",
    "Webhooks", "block_body", "decimal_text", "order_body", "time_text",
]  # fmt: skip
