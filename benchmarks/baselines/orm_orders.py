"""One order at a time through the ORM, as a plain Django project would write it: lock, check, hold, match, save."""

from typing import Any

from django.db import models, transaction

from core.ids import new_id


def _models() -> tuple[Any, Any, Any]:
    """Unmanaged twins of what such a project has: accounts, orders, trades."""
    if not _made:
        class OrmAccount(models.Model):
            owner = models.BigIntegerField(unique=True)
            free_micro = models.BigIntegerField()
            held_micro = models.BigIntegerField(default=0)

            class Meta:
                app_label = "exchange"
                db_table = "orm_account"

        class OrmOrder(models.Model):
            id = models.UUIDField(primary_key=True, default=new_id)
            owner = models.BigIntegerField()
            buying = models.BooleanField()
            price = models.BigIntegerField()
            open_tokens = models.BigIntegerField()
            status = models.CharField(max_length=10, default="open")
            created_at = models.DateTimeField(auto_now_add=True)

            class Meta:
                app_label = "exchange"
                db_table = "orm_order"
                indexes = [models.Index(fields=["buying", "status", "price"], name="orm_book")]

        class OrmTrade(models.Model):
            buy = models.ForeignKey(OrmOrder, models.PROTECT, related_name="+")
            sell = models.ForeignKey(OrmOrder, models.PROTECT, related_name="+")
            price = models.BigIntegerField()
            quantity = models.BigIntegerField()

            class Meta:
                app_label = "exchange"
                db_table = "orm_trade"

        _made.extend((OrmAccount, OrmOrder, OrmTrade))
        from django.db import connection

        with connection.schema_editor() as editor:
            for model in _made:
                editor.create_model(model)
    return _made[0], _made[1], _made[2]


_made: list[Any] = []


def place_one_by_one(trading: Any, count: int) -> None:
    """Place `count` orders of the flow, each in a transaction of its own."""
    accounts, orders, trades = _models()
    for organization in (trading.buyer, trading.seller):
        accounts.objects.get_or_create(owner=organization.pk, defaults={"free_micro": 10**17})
    for organization, requests in trading.orders(count, marketable=count * 15 // 100).items():
        for request in requests:
            _place(accounts, orders, trades, organization.pk, request)


def _place(accounts: Any, orders: Any, trades: Any, owner: int, request: Any) -> None:
    with transaction.atomic():
        account = accounts.objects.select_for_update().get(owner=owner)
        hold = request.quantity_tokens * request.price_nano // 1_000
        assert account.free_micro >= hold
        account.free_micro -= hold
        account.held_micro += hold
        account.save()
        buying = request.side == "buy"
        order = orders.objects.create(
            owner=owner, buying=buying, price=request.price_nano, open_tokens=request.quantity_tokens
        )
        rows = orders.objects.select_for_update().filter(buying=not buying, status="open")
        rows = rows.filter(price__lte=order.price).order_by("price", "created_at") if buying else rows.filter(
            price__gte=order.price
        ).order_by("-price", "created_at")
        for other in rows[:20]:
            quantity = min(order.open_tokens, other.open_tokens)
            buy, sell = (order, other) if buying else (other, order)
            trades.objects.create(buy=buy, sell=sell, price=other.price, quantity=quantity)
            for side in (order, other):
                side.open_tokens -= quantity
                side.status = "open" if side.open_tokens else "filled"
                side.save()
            if not order.open_tokens:
                break
