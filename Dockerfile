# The image of zoomrelay. Build: docker build -t zoomrelay .
# requirements.lock was made for this version of Python: another base wants a lock of its own (make lock).
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
WORKDIR /src
# Dependencies first: they change less often than the code.
COPY requirements.lock ./
RUN python -m venv --without-pip /opt/zoomrelay \
 && pip --python /opt/zoomrelay install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY zoomrelay zoomrelay
RUN pip --python /opt/zoomrelay install --no-cache-dir --no-deps .

FROM ${BASE_IMAGE}
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /nonexistent zoomrelay \
 && install -d -o zoomrelay -g zoomrelay -m 0700 /var/lib/zoomrelay
COPY --from=build /opt/zoomrelay /opt/zoomrelay
# STATE_DIRECTORY is a default that state_dir beats. The admin port must be reached by probes and scrapes from
# outside of the container; it is read-only.
ENV PATH=/opt/zoomrelay/bin:$PATH \
    STATE_DIRECTORY=/var/lib/zoomrelay \
    ZOOMRELAY_ADMIN__LISTEN=:9464
USER 10001:10001
WORKDIR /
VOLUME /var/lib/zoomrelay
EXPOSE 9464
# Unhealthy means not ready, for instance while Zoom is down; a restart helps nothing then. What restarts
# containers by itself should ask /livez instead.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["zoomrelay", "status"]
ENTRYPOINT ["zoomrelay"]
CMD ["run"]
