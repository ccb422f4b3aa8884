from django.apps import AppConfig


class ProjectConfig(AppConfig):
    """The project as an application of its own, so that every process knows the Celery application."""

    name = "config"

    def ready(self) -> None:
        import config.celery  # noqa: F401
        from config import console_names

        console_names.install()
