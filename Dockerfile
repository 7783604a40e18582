# Images for serving and for jobs: nobody's processes, and nothing to write but /tmp and what is mounted.
#
#     docker build --tag dr_tfx .                              # drtfx-serve for an export, no TensorFlow
#     docker build --tag dr_tfx-jobs --target jobs .           # every command of the line
#     docker build --tag dr_tfx-triton --target triton .       # Triton, for drtfx-export --format=triton
#     docker run --read-only --tmpfs /tmp --publish 127.0.0.1:8000:8000 --env DRTFX_API_KEY \
#       --volume "$PWD/export:/model:ro" dr_tfx
#     docker run --read-only --tmpfs /tmp --shm-size 1g --user "$(id -u):$(id -g)" \
#       --volume "$PWD:/work" dr_tfx-jobs drtfx-train --config=dr_binary --data_dir=data --workdir=run
#
# All packages are those of locks/, by their hashes. Name the base by its digest where a build has to
# be repeated: --build-arg BASE=python@sha256:..., and likewise TRITON.
ARG BASE=python:3.11-slim-bookworm
# It has Python 3.12. Until 24.10 Triton had Python 3.10, which is too old.
ARG TRITON=nvcr.io/nvidia/tritonserver:25.01-py3

FROM ${BASE} AS build
WORKDIR /source
COPY locks/image.txt locks/image.txt
RUN python -m venv /opt/dr_tfx && /opt/dr_tfx/bin/python -m pip install --no-cache-dir \
      --require-hashes --no-deps --requirement locks/image.txt
COPY setup.py pyproject.toml README.md LICENSE ./
COPY dr_tfx dr_tfx
COPY beam_jobs beam_jobs
RUN /opt/dr_tfx/bin/python -m pip install --no-cache-dir --no-deps --no-build-isolation .

FROM ${BASE} AS build-jobs
WORKDIR /source
COPY locks/jobs.txt locks/jobs.txt
RUN python -m venv /opt/dr_tfx && /opt/dr_tfx/bin/python -m pip install --no-cache-dir \
      --require-hashes --no-deps --requirement locks/jobs.txt
COPY setup.py pyproject.toml README.md LICENSE ./
COPY configs configs
COPY dr_tfx dr_tfx
COPY beam_jobs beam_jobs
RUN /opt/dr_tfx/bin/python -m pip install --no-cache-dir --no-deps --no-build-isolation .

FROM ${BASE} AS jobs
COPY --from=build-jobs /opt/dr_tfx /opt/dr_tfx
ENV PATH=/opt/dr_tfx/bin:$PATH HOME=/tmp MPLCONFIGDIR=/tmp PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
WORKDIR /work
STOPSIGNAL SIGTERM
# A job ends by itself, and its exit code says whether it did well.
HEALTHCHECK NONE
CMD ["drtfx-config", "--help"]

FROM ${TRITON} AS triton
WORKDIR /source
COPY locks/image.txt locks/image.txt
# Triton's own Python runs `photographs`; what it finds here needs no folder of that Python.
ENV PYTHONPATH=/opt/dr_tfx HOME=/tmp MPLCONFIGDIR=/tmp PYTHONDONTWRITEBYTECODE=1
RUN python3 -m pip install --no-cache-dir --target=/opt/dr_tfx \
      --require-hashes --no-deps --requirement locks/image.txt
COPY setup.py pyproject.toml README.md LICENSE ./
COPY dr_tfx dr_tfx
COPY beam_jobs beam_jobs
RUN python3 -m pip install --no-cache-dir --target=/opt/dr_tfx --no-deps --no-build-isolation .
USER 65532:65532
WORKDIR /tmp
EXPOSE 8000 8001 8002
STOPSIGNAL SIGTERM
HEALTHCHECK --start-period=60s --interval=15s --timeout=5s \
  CMD ["python3", "-c", "from urllib import request; request.urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=4)"]
CMD ["tritonserver", "--model-repository=/model"]

FROM ${BASE} AS serve
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
