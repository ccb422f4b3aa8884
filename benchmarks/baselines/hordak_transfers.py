"""
django-hordak, a double-entry ledger for Django, as its documentation does it: one atomic block, one `Transaction` with
a credit and a debit leg a transfer.

Runs in the peers' environment, so it imports nothing of the product: `python hordak_transfers.py DATABASE_URL` migrates
that (empty) database, then answers each number on its input by the seconds that so many transfers took.
"""

import json
import sys
import time

import dj_database_url
import django
from django.conf import settings

settings.configure(
    DATABASES={"default": dj_database_url.parse(sys.argv[1])},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "mptt", "djmoney", "hordak"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField", USE_TZ=True, CURRENCIES=["CNY"], DEFAULT_CURRENCY="CNY",
    HORDAK_CURRENCIES=["CNY"], HORDAK_INTERNAL_CURRENCY="CNY", HORDAK_DECIMAL_PLACES=6, HORDAK_MAX_DIGITS=20)
django.setup()


def main():
    from django.core.management import call_command
    from django.db import transaction
    from hordak.models import Account, Leg, Transaction
    from moneyed import Money

    call_command("migrate", verbosity=0, interactive=False)
    buyers = [Account.objects.create(name=f"Buyer {number}", code=f"{number:03d}", type="LI", currencies=["CNY"])
              for number in range(100)]
    escrow = Account.objects.create(name="Escrow", code="900", type="LI", currencies=["CNY"])
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        with transaction.atomic():
            for number in range(int(line)):
                booked = Transaction.objects.create(description=f"trade {number}")
                amount = Money("0.001", "CNY")
                Leg.objects.create(transaction=booked, account=buyers[number % 100], amount=-amount)
                Leg.objects.create(transaction=booked, account=escrow, amount=amount)
        print(json.dumps(time.perf_counter() - start), flush=True)


if __name__ == "__main__":
    main()
