# Four images from one file: `--target api` and `--target safety` (no torch), `--target worker`, `--target training`.
# Each is the one before it with more packages, and layers that they share are stored once; only worker and training
# hold weights. Packages are layers that pyproject.toml and constraints.txt alone change, and the source is a small layer
# above them. In this order also the classic builder, which builds all that stands before its target, builds no
# packages that the target does not hold.
ARG PYTHON_IMAGE=python:3.12.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS tools
# The way to the packages, as pip's own variables; https_proxy and its like are arguments of every build anyway.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_TRUSTED_HOST
# Stages above this one see the variables; those of the images do not stand on it
ENV PIP_INDEX_URL=${PIP_INDEX_URL} PIP_EXTRA_INDEX_URL=${PIP_EXTRA_INDEX_URL} PIP_FIND_LINKS=${PIP_FIND_LINKS} \
    PIP_TRUSTED_HOST=${PIP_TRUSTED_HOST}
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_WARN_SCRIPT_LOCATION=1
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /build
# pip works from a folder of its own, so that no image holds it
RUN python3 -m venv /tools && python3 -m venv --without-pip /app
COPY docker/certificates certificates
RUN if compgen -G 'certificates/*.crt' >/dev/null; then \
      cat "$(/tools/bin/python -c 'from pip._vendor import certifi; print(certifi.where())')" certificates/*.crt \
        >/certificates.pem; \
      printf '[global]\ncert = /certificates.pem\n' >/etc/pip.conf; \
    fi
RUN /tools/bin/pip install 'setuptools>=77,<82' wheel

FROM tools AS requirements
# What the API reads beside its five formats of pictures: HEIC, AVIF and TIFF; empty leaves their decoders out
ARG API_EXTRAS=formats
COPY pyproject.toml docker/requirements.py ./
RUN python3 requirements.py ${API_EXTRAS:+"${API_EXTRAS}"} <pyproject.toml >api.txt \
 && python3 requirements.py safety <pyproject.toml >safety.txt \
 && python3 requirements.py safety worker quantization <pyproject.toml >worker.txt \
 && python3 requirements.py safety evaluate <pyproject.toml >training.txt

FROM tools AS source
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY models/__init__.py models/jobs.py models/
COPY safety safety
COPY service service

FROM ${PYTHON_IMAGE} AS base
RUN useradd --system --uid 10001 --create-home viscpm \
 && install -d -o 10001 -g 10001 /var/log/viscpm /run/viscpm
# The root may be read-only: what libraries cache goes to /tmp
ENV PATH=/app/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 XDG_CACHE_HOME=/tmp/cache HF_HOME=/tmp/cache/hub
COPY --from=tools /app /app
COPY docker/healthcheck.sh /healthcheck.sh
WORKDIR /home/viscpm

# The API

FROM tools AS install-api
COPY constraints.txt docker/trim.py ./
COPY --from=requirements /build/api.txt ./
RUN /tools/bin/pip --python /app/bin/python install --prefix /api -c constraints.txt -r api.txt \
 && python3 trim.py /api \
 && cp -al /api/. /app/

FROM base AS packages-api
COPY --from=install-api /api /app

FROM source AS build-api
RUN /tools/bin/pip wheel --no-deps --no-build-isolation -w /wheel . \
 && /tools/bin/pip --python /app/bin/python install --no-deps --prefix /project /wheel/*.whl

FROM packages-api AS api
COPY --from=build-api /project /app
USER 10001
ENV VISCPM_HOST=0.0.0.0 VISCPM_PORT=8000
EXPOSE 8000
# Alive; whether it can serve is another question, which the compose file's service `ready` asks
HEALTHCHECK --interval=10s --timeout=8s --start-period=30s --retries=3 \
  CMD ["/healthcheck.sh", "127.0.0.1", "8000", "/health/live"]
CMD ["viscpm", "api"]

# The bundled screens; the release's checkers need the worker image: `viscpm worker safety`

FROM install-api AS install-safety
COPY --from=requirements /build/safety.txt ./
RUN /tools/bin/pip --python /app/bin/python install --prefix /safety -c constraints.txt -r safety.txt \
 && cp -al /safety/. /app/

FROM packages-api AS packages-safety
COPY --from=install-safety /safety /app

FROM source AS build-safety
RUN /tools/bin/pip wheel --no-deps --no-build-isolation -w /wheel . \
 && /tools/bin/pip --python /app/bin/python install --no-deps --prefix /project /wheel/*.whl

FROM packages-safety AS safety
COPY --from=build-safety /project /app
USER 10001
ENV VISCPM_WORKER_METRICS_HOST=0.0.0.0 VISCPM_WORKER_METRICS_PORT=9100
EXPOSE 9100
HEALTHCHECK --interval=10s --timeout=8s --start-period=30s --retries=3 \
  CMD ["/healthcheck.sh", "127.0.0.1", "9100", "/health/ready"]
ENTRYPOINT ["viscpm", "worker"]
CMD ["safety"]

# Models, and the checkpoint in the box

FROM install-safety AS install-worker
# An index beside the usual one. The usual one's torch (Linux, x86-64) is built for CUDA 13: it needs a driver of R580
# or newer and knows no Volta. https://download.pytorch.org/whl/cu126 has one for older drivers and for Volta, …/whl/cpu
# one without CUDA and a tenth as large; pip takes their versions, which end in +cu126 and +cpu, before the usual one's.
ARG TORCH_INDEX_URL
COPY --from=requirements /build/worker.txt ./
RUN /tools/bin/pip --python /app/bin/python install --prefix /worker -c constraints.txt \
      ${TORCH_INDEX_URL:+--extra-index-url "${TORCH_INDEX_URL}"} -r worker.txt \
 && cp -al /worker/. /app/

FROM packages-safety AS packages-worker
# Triton compiles the attention kernel when a chat worker starts on a GPU. Empty: no compiler, and attention goes
# request by request there
ARG KERNEL_COMPILER="gcc libc6-dev"
# hadolint ignore=DL3008,SC2086
RUN if [ -n "${KERNEL_COMPILER}" ]; then \
      apt-get update && apt-get install -y --no-install-recommends ${KERNEL_COMPILER} \
      && rm -rf /var/lib/apt/lists/*; \
    fi
COPY --from=install-worker /worker /app

# The weights are no source: a layer of their own, which no change of the source copies again
FROM tools AS weights-worker
COPY models/emoji/viscpm-emoji models/emoji/viscpm-emoji
RUN site=$(/app/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
 && install -d "/weights${site}" && mv models "/weights${site}"

# What changes most is copied last
FROM tools AS build-worker
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY models/__init__.py models/jobs.py models/
COPY models/networks models/networks
COPY models/checkpoints models/checkpoints
COPY models/engines models/engines
COPY safety safety
COPY service service
RUN /tools/bin/pip wheel --no-deps --no-build-isolation -w /wheel . \
 && /tools/bin/pip --python /app/bin/python install --no-deps --prefix /project /wheel/*.whl

FROM packages-worker AS worker
COPY --from=weights-worker /weights/app /app
COPY --from=build-worker /project /app
USER 10001
ENV VISCPM_WORKER_METRICS_HOST=0.0.0.0 VISCPM_WORKER_METRICS_PORT=9100 TRITON_CACHE_DIR=/var/cache/triton \
    VISCPM_CHAT_CHECKPOINT=/models/chat VISCPM_PAINT_CHECKPOINT=/models/paint
EXPOSE 9100
# Loading 20 GB from a cold disk takes minutes
HEALTHCHECK --interval=10s --timeout=8s --start-period=600s --retries=3 \
  CMD ["/healthcheck.sh", "127.0.0.1", "9100", "/health/ready"]
ENTRYPOINT ["viscpm", "worker"]
CMD ["chat"]

# `viscpm finetune` and `viscpm evaluate`

FROM install-worker AS install-training
COPY --from=requirements /build/training.txt ./
RUN /tools/bin/pip --python /app/bin/python install --prefix /training -c constraints.txt -r training.txt

FROM packages-worker AS packages-training
COPY --from=install-training /training /app

FROM source AS build-training
COPY models models
RUN /tools/bin/pip wheel --no-deps --no-build-isolation -w /wheel . \
 && /tools/bin/pip --python /app/bin/python install --no-deps --prefix /project /wheel/*.whl

FROM packages-training AS training
COPY --from=build-training /project /app
USER 10001
ENTRYPOINT ["viscpm"]
CMD ["finetune", "--help"]
