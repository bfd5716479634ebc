# auditlake with everything it needs: one image for all services of compose.yaml and of deploy/helm. How to build and run it:
# docs/install.md. To pin the base image, build with --build-arg PYTHON=docker.io/library/python:3.13-slim@sha256:...
ARG PYTHON=docker.io/library/python:3.13-slim

FROM ${PYTHON} AS build
WORKDIR /source
RUN apt-get update && apt-get install --yes --no-install-recommends binutils && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/auditlake
# Before the sources, so that a change to them does not install everything again.
COPY requirements/runtime.txt requirements/
RUN /opt/auditlake/bin/pip install --no-cache-dir --no-compile --require-hashes --requirement requirements/runtime.txt
COPY . .
RUN /opt/auditlake/bin/pip install --no-cache-dir --no-compile --no-index --no-deps --no-build-isolation . \
    && /opt/auditlake/bin/pip uninstall --yes --quiet editables hatchling pip \
    && sh deploy/slim.sh /opt/auditlake/lib/python3*/site-packages \
    && python3 -m compileall -q /opt/auditlake/lib

FROM ${PYTHON}
COPY --from=build /opt/auditlake /opt/auditlake
# Its own number, which no user of the host has. The folder is the only one that is written to.
RUN groupadd --gid 10001 auditlake \
    && useradd --uid 10001 --gid 10001 --home-dir /var/lib/auditlake --shell /usr/sbin/nologin auditlake \
    && install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/auditlake
ENV PATH=/opt/auditlake/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/var/lib/auditlake \
    XDG_STATE_HOME=/var/lib/auditlake/state \
    AUDITLAKE_CONFIG=/etc/auditlake/auditlake.toml
WORKDIR /var/lib/auditlake
VOLUME /var/lib/auditlake
USER 10001:10001
# Of the dashboard, which `auditlake up` starts, too. Services without it replace or disable the check.
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
    CMD ["python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8501/_stcore/health', timeout=4)"]
CMD ["auditlake", "up"]
