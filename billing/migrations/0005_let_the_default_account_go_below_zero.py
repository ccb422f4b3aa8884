from django.db import migrations


class Migration(migrations.Migration):
    """The default account bears what failing providers cannot: below zero it shows the operator's own loss."""

    dependencies = [("billing", "0004_loss_kinds")]

    operations = [
        migrations.RunSQL(
            "UPDATE billing_account SET may_overdraw = true WHERE kind = 'default_fund'",
            "UPDATE billing_account SET may_overdraw = (posted_micro < held_micro) WHERE kind = 'default_fund'",
        ),
    ]
