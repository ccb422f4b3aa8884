"""
The rows of the exchange, and the constraints that make a wrong row impossible.

Small tables have bigint ids and foreign keys. The large ones (commands, journal, trades, order events) get their ids
from the application, take no foreign key in the database (checking one costs more than writing the row), and are
insert-only.
"""

from exchange.models.auctions import Annulment, AuctionBook, AuctionCall, AuctionResult
from exchange.models.blocks import Block, BlockLeg, BlockResult
from exchange.models.contracts import (
    BuyerExclusion,
    ContractDeployment,
    ContractLot,
    DeliveryContract,
    Offer,
    Replacement,
    Shortfall,
    SigningKey,
    Unplaced,
)
from exchange.models.controls import Intervention, Lease, OrderRate, TradingLimits, TradingStop
from exchange.models.frames import MarketFrame, OwnFrame
from exchange.models.journal import BookSnapshot, JournalEntry, OrderEvent, Trade
from exchange.models.markets import Market, MarketPosition
from exchange.models.orders import Command, CommandQueue
from exchange.models.surveillance import SurveillanceFinding, SurveillanceScan

__all__ = [
    "Annulment",
    "AuctionBook",
    "AuctionCall",
    "AuctionResult",
    "Block",
    "BlockLeg",
    "BlockResult",
    "BookSnapshot",
    "BuyerExclusion",
    "Command",
    "CommandQueue",
    "ContractDeployment",
    "ContractLot",
    "DeliveryContract",
    "Intervention",
    "JournalEntry",
    "Lease",
    "Market",
    "MarketFrame",
    "MarketPosition",
    "Offer",
    "OrderEvent",
    "OrderRate",
    "OwnFrame",
    "Replacement",
    "Shortfall",
    "SigningKey",
    "SurveillanceFinding",
    "SurveillanceScan",
    "Trade",
    "TradingLimits",
    "TradingStop",
    "Unplaced",
]
