from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0003_seal_the_journal"),
    ]

    operations = [
        migrations.AlterField(
            model_name="charge",
            name="kind",
            field=models.CharField(
                choices=[
                    ("used", "used"),
                    ("unused", "unused"),
                    ("undelivered", "undelivered"),
                    ("overage", "overage"),
                    ("disputed", "disputed"),
                    ("list", "list"),
                    ("trading_difference", "trading_difference"),
                    ("penalty", "penalty"),
                    ("compensation", "compensation"),
                    ("replacement", "replacement"),
                    ("from_bond", "from_bond"),
                    ("from_default", "from_default"),
                ],
                max_length=20,
            ),
        ),
    ]
