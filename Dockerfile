# The server for an exported model: no TensorFlow, no root, and nothing to write but /tmp.
#
#     docker build --tag dr_tfx .
#     docker run --read-only --tmpfs /tmp --publish 127.0.0.1:8000:8000 --env DRTFX_API_KEY \
#       --volume "$PWD/export:/model:ro" dr_tfx
#
# Name the base by its digest where a build has to be repeated: --build-arg BASE=python@sha256:...
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /source
COPY locks/image.txt locks/image.txt
RUN python -m venv /opt/dr_tfx && /opt/dr_tfx/bin/python -m pip install --no-cache-dir \
      --require-hashes --no-deps --requirement locks/image.txt
COPY setup.py pyproject.toml README.md LICENSE ./
COPY dr_tfx dr_tfx
COPY beam_jobs beam_jobs
RUN /opt/dr_tfx/bin/python -m pip install --no-cache-dir --no-deps --no-build-isolation .

FROM ${BASE}
COPY --from=build /opt/dr_tfx /opt/dr_tfx
ENV PATH=/opt/dr_tfx/bin:$PATH HOME=/tmp MPLCONFIGDIR=/tmp PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
WORKDIR /tmp
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --start-period=60s --interval=15s --timeout=5s \
  CMD ["python", "-c", "from urllib import request; request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
ENTRYPOINT ["drtfx-serve", "--host=0.0.0.0", "--port=8000"]
CMD ["--model=/model"]
