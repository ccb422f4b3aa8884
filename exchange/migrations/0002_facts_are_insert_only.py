from django.db import migrations

from core.insert_only import insert_only


class Migration(migrations.Migration):
    dependencies = [("exchange", "0001_lay_out_the_exchange")]

    operations = [
        insert_only("exchange_command"),
        insert_only("exchange_journalentry"),
        insert_only("exchange_trade"),
        insert_only("exchange_orderevent"),
        insert_only("exchange_auctionresult"),
        insert_only("exchange_auctionbook"),
        insert_only("exchange_contractlot"),
        insert_only("exchange_shortfall"),
    ]
