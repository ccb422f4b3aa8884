"""Addresses of billing."""

from django.urls import path

from billing.api import charges, ledger

api_urlpatterns = [
    path("balance", ledger.Balance.as_view()),
    path("transfers", ledger.Transfers.as_view()),
    path("deposits", ledger.Deposits.as_view()),
    path("charges", charges.Charges.as_view()),
]
urlpatterns: list[object] = []
