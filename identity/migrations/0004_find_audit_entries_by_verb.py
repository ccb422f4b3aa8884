from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("identity", "0003_accept_rulebook")]

    operations = [
        AddIndexConcurrently("auditentry", models.Index(fields=["verb", "id"], name="audit_verb")),
    ]
