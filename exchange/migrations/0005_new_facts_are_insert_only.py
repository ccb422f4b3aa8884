from django.db import migrations

from core.insert_only import insert_only


class Migration(migrations.Migration):
    dependencies = [("exchange", "0004_record_replacements_and_exclusions")]

    operations = [insert_only("exchange_replacement"), insert_only("exchange_unplaced")]
