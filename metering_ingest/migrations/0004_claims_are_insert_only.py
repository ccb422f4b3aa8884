from django.db import migrations

from core.insert_only import insert_only


class Migration(migrations.Migration):
    dependencies = [("metering_ingest", "0003_keep_claims_and_covers")]

    operations = [
        insert_only("metering_ingest_claim"),
        insert_only("metering_ingest_claimedrequest"),
        insert_only("metering_ingest_claimruling"),
    ]
