from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("exchange", "0005_new_facts_are_insert_only")]

    operations = [
        AddIndexConcurrently(
            model_name="market",
            index=models.Index(
                condition=models.Q(("finalized_at__isnull", True), ("phase", "settled")),
                fields=["settled_at"],
                name="market_to_finalize",
            ),
        ),
    ]
