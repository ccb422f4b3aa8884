"""Addresses of billing."""

from django.urls import path

from billing import views
from billing.api import charges, ledger

api_urlpatterns = [
    path("balance", ledger.Balance.as_view()),
    path("transfers", ledger.Transfers.as_view()),
    path("deposits", ledger.Deposits.as_view()),
    path("charges", charges.Charges.as_view()),
]

urlpatterns = [
    path("invoices", views.invoices, name="invoices"),
    path("invoices/<int:document_id>", views.invoice, name="invoice"),
    path("statements", views.statements, name="statements"),
    path("statements/<int:document_id>", views.statement, name="statement"),
    path("account", views.account, name="account"),
]
