# History: `pho archive` and `pho backfill` on Apache Beam.
# Built from the repository's root: docker build -f deploy/images/beam.Dockerfile -t pho-beam:0.1.0 .
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY constraints-beam.txt setup.py pyproject.toml ./
COPY schemas schemas
COPY policies policies
COPY pipelines pipelines
COPY connectors connectors
COPY engines engines
COPY producers producers
COPY serving serving
RUN python -m venv /opt/pho \
    && /opt/pho/bin/pip install --no-cache-dir -c constraints-beam.txt '.[beam,kafka]' pyarrow

FROM python:3.11-slim-bookworm
RUN groupadd --gid 9999 pho && useradd --uid 9999 --gid pho --create-home pho \
    && install -d -o pho -g pho /archive
COPY --from=build /opt/pho /opt/pho
ENV PATH=/opt/pho/bin:$PATH PYTHONUNBUFFERED=1
USER 9999:9999
WORKDIR /archive
VOLUME /archive
# A job that ends has no health but its exit status; this says that the image itself is whole.
HEALTHCHECK --interval=60s --timeout=30s CMD ["pho", "schemas"]
ENTRYPOINT ["pho"]
CMD ["archive", "--help"]
