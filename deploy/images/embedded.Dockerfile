# PHO on one machine, and every command that is no Flink or Beam job: `pho run`, `pho camera`, `pho ticks`, `pho topics`.
# Built from the repository's root: docker build -f deploy/images/embedded.Dockerfile -t pho-embedded:0.1.0 .
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY constraints.txt setup.py pyproject.toml ./
COPY schemas schemas
COPY policies policies
COPY pipelines pipelines
COPY connectors connectors
COPY engines engines
COPY producers producers
COPY serving serving
RUN python -m venv /opt/pho \
    && /opt/pho/bin/pip install --no-cache-dir -c constraints.txt setuptools \
    && /opt/pho/bin/pip install --no-cache-dir -c constraints.txt --no-build-isolation '.[vision,kafka,aws,gateway]'
ENV PHO_CACHE=/opt/pho/cache
# The models are in the image, each checked by its SHA-256: nothing is fetched while it runs.
RUN /opt/pho/bin/pho doctor --fetch

FROM python:3.11-slim-bookworm
# The same number as in Flink's image, so that both may write to one volume of pictures.
RUN groupadd --gid 9999 pho && useradd --uid 9999 --gid pho --create-home pho \
    && install -d -o pho -g pho /data
COPY --from=build /opt/pho /opt/pho
ENV PATH=/opt/pho/bin:$PATH PHO_CACHE=/opt/pho/cache PHO_DATA=/data PYTHONUNBUFFERED=1
USER 9999:9999
WORKDIR /data
VOLUME /data
HEALTHCHECK --interval=60s --timeout=30s --start-period=60s CMD ["pho", "doctor", "--json"]
ENTRYPOINT ["pho"]
CMD ["run"]
