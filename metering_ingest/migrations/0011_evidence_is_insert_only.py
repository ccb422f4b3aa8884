from django.db import migrations

from core.insert_only import insert_only


class Migration(migrations.Migration):
    dependencies = [("metering_ingest", "0010_keep_evidence_of_service")]

    operations = [
        insert_only(f"metering_ingest_{name}")
        for name in (
            "servicereport", "serviceminute", "probe", "servicereview", "servicefinding", "findingobjection",
            "findingruling", "servicewarning",
        )
    ]  # fmt: skip
