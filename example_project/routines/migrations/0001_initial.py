"""What is being played."""

from __future__ import annotations

import time

from django.db import migrations, models


class Migration(migrations.Migration):
    """Makes the table."""

    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Playback",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True,
                        primary_key=True,
                        serialize=False,
                        verbose_name="ID",
                    ),
                ),
                ("routine", models.CharField(max_length=20, unique=True)),
                ("is_playing", models.BooleanField(default=False)),
                ("position", models.FloatField(default=0)),
                ("time", models.FloatField(default=time.time)),
            ],
        ),
    ]
