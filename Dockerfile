# The image of zoomrelay. Build: docker build -t zoomrelay .
# requirements.lock was made for this version of Python: another base wants a lock of its own (make lock).
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
WORKDIR /src
# What builds, then what runs, each with its hash: they change less often than the code.
COPY requirements.lock requirements-build.lock ./
RUN python3 -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements-build.lock \
 && python3 -m venv --without-pip /opt/zoomrelay \
 && /opt/build/bin/pip --python /opt/zoomrelay install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY zoomrelay zoomrelay
RUN /opt/build/bin/pip wheel --no-cache-dir --no-build-isolation --no-deps --wheel-dir /opt/wheel . \
 && /opt/build/bin/pip --python /opt/zoomrelay install --no-cache-dir --no-index --no-deps /opt/wheel/*.whl

FROM ${BASE_IMAGE}
# For `docker build --build-arg VERSION=1.2.3 --build-arg REVISION=$(git rev-parse HEAD) …`.
ARG VERSION=""
ARG REVISION=""
LABEL org.opencontainers.image.title="zoomrelay" \
      org.opencontainers.image.description="Holds Zoom's event WebSocket open and delivers every event at least once" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Whatever user it runs as may make its files here, and nobody else may read or remove them.
RUN install -d -m 1777 /var/lib/zoomrelay
COPY --from=build /opt/zoomrelay /opt/zoomrelay
# STATE_DIRECTORY is a default that state_dir beats. The admin port must be reached by probes and scrapes from
# outside of the container; it is read-only. Faults of the interpreter leave a trace in the log.
ENV PATH=/opt/zoomrelay/bin:$PATH \
    STATE_DIRECTORY=/var/lib/zoomrelay \
    ZOOMRELAY_ADMIN__LISTEN=:9464 \
    PYTHONFAULTHANDLER=1
# Needs no entry in /etc/passwd: any other will do, with a state directory that it may write to.
USER 10001:10001
WORKDIR /
VOLUME /var/lib/zoomrelay
EXPOSE 9464
STOPSIGNAL SIGTERM
# Unhealthy means not ready, for instance while Zoom is down; a restart helps nothing then. What restarts
# containers by itself should ask /livez instead.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["zoomrelay", "status"]
ENTRYPOINT ["zoomrelay"]
CMD ["run"]
