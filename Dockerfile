# One image for web, workers and beat; docker-compose.yml starts them on servers of their own.
FROM python:3.12-slim-bookworm AS build
WORKDIR /app
RUN python -m venv /opt/venv
COPY requirements.txt ./
RUN /opt/venv/bin/pip install --no-cache-dir --require-hashes -r requirements.txt
COPY . .
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps ./sdk \
    && for po in locale/*/LC_MESSAGES/*.po; do \
         [ ! -f "$po" ] || /opt/venv/bin/pybabel compile -i "$po" -o "${po%.po}.mo"; \
       done \
    && CIYUAN_ENV=production SECRET_KEY=used-for-collecting-static-files-and-then-thrown-away-0000 ALLOWED_HOSTS=build \
       DATABASE_URL=postgresql://build/build REDIS_URL=redis://build CIYUAN_METRICS_TOKEN=build CIYUAN_STATIC_ROOT=/app/staticfiles \
       /opt/venv/bin/python manage.py collectstatic --no-input -v0 \
    && rm -rf var

FROM python:3.12-slim-bookworm
RUN useradd --system --create-home --home-dir /var/lib/ciyuan ciyuan \
    && mkdir -p /var/lib/ciyuan/var && chown -R ciyuan: /var/lib/ciyuan
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
WORKDIR /app
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONPATH=/app \
    CIYUAN_ENV=production \
    CIYUAN_VAR=/var/lib/ciyuan/var \
    DJANGO_SETTINGS_MODULE=config.settings
USER ciyuan
EXPOSE 8000
CMD ["granian", "--interface", "asginl", "--loop", "uvloop", "--host", "0.0.0.0", "--port", "8000", "--workers", "2", \
     "--respawn-failed-workers", "--no-access-log", "config.asgi:application"]
