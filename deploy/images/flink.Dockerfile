# A Flink cluster that can run PHO's jobs: JobManager, TaskManager, and `pho submit`.
# Built from the repository's root: docker build -f deploy/images/flink.Dockerfile -t pho-flink:0.1.0 .
FROM flink:2.2.1-java17 AS flink

# The Kafka connector, checked by the SHA-256 that PHO pins, and PHO's own few Java classes.
FROM maven:3.9-eclipse-temurin-17 AS jars
WORKDIR /jars
COPY --from=flink /opt/flink/lib /flink/lib
COPY connectors/flink_kafka.sha256 .
COPY engines/flink/java java
RUN mvn --quiet --batch-mode dependency:copy -Dmdep.useBaseVersion=true -DoutputDirectory=/jars \
        -Dartifact=org.apache.flink:flink-sql-connector-kafka:5.0.0-2.2 \
    && sha256sum --check flink_kafka.sha256 \
    && mkdir classes \
    && find java -name '*.java' -exec javac --release 17 -d classes \
        -cp '/flink/lib/*:/jars/flink-sql-connector-kafka-5.0.0-2.2.jar' {} + \
    && jar --create --file pho-flink.jar -C classes .

FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY constraints-flink.txt setup.py pyproject.toml ./
COPY schemas schemas
COPY policies policies
COPY pipelines pipelines
COPY connectors connectors
COPY engines engines
COPY producers producers
COPY serving serving
# PyFlink needs `pemja`, which is compiled where no wheel fits.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc g++ libc6-dev \
    && rm -rf /var/lib/apt/lists/*
COPY --from=flink /opt/java/openjdk /opt/java/openjdk
ENV JAVA_HOME=/opt/java/openjdk
RUN python -m venv /opt/pho \
    && /opt/pho/bin/pip install --no-cache-dir -c constraints-flink.txt '.[flink,vision,kafka,aws]' \
    && /opt/pho/bin/pip wheel --no-cache-dir --no-deps --wheel-dir /opt/pho/wheel .
ENV PHO_CACHE=/opt/pho/cache
RUN /opt/pho/bin/pho doctor --fetch

# Python's own image with Flink put into it, not the other way round: Flink's has no Python 3.11, and thread mode
# loads the libpython of exactly the interpreter that PyFlink was installed with.
FROM python:3.11-slim-bookworm
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gettext-base libjemalloc-dev libsnappy1v5 procps \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 9999 flink \
    && useradd --uid 9999 --gid flink --home-dir /opt/flink --no-create-home flink \
    && install -d -o flink -g flink /data /checkpoints /opt/pho/job
COPY --from=flink /opt/java/openjdk /opt/java/openjdk
COPY --from=flink --chown=flink:flink /opt/flink /opt/flink
COPY --from=flink /docker-entrypoint.sh /docker-entrypoint.sh
COPY --from=jars --chown=flink:flink /jars/flink-sql-connector-kafka-5.0.0-2.2.jar /jars/pho-flink.jar /opt/flink/lib/
COPY --from=build /opt/pho /opt/pho
# flink-python belongs into lib: from opt alone, thread mode fails on a cluster's second job.
RUN cp /opt/flink/opt/flink-python-2.2.1.jar /opt/flink/lib/ \
    && mkdir -p /opt/flink/plugins/s3-fs-presto \
    && cp /opt/flink/opt/flink-s3-fs-presto-2.2.1.jar /opt/flink/plugins/s3-fs-presto/ \
    && chown -R flink:flink /opt/flink/lib /opt/flink/plugins
ENV FLINK_HOME=/opt/flink JAVA_HOME=/opt/java/openjdk PHO_CACHE=/opt/pho/cache PHO_DATA=/data \
    PATH=/opt/pho/bin:/opt/flink/bin:/opt/java/openjdk/bin:$PATH
USER 9999:9999
WORKDIR /opt/flink
EXPOSE 6123 8081 9249
# JobManager and TaskManager both answer at the reporter's port; `pho submit` ends before it is asked.
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9249/', timeout=5)"]
ENTRYPOINT ["/docker-entrypoint.sh"]
CMD ["help"]
