"""The project: settings, addresses, ASGI, Celery and the services it runs on."""
