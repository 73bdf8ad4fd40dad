# Four images from one file: `--target api` and `--target safety` (no torch), `--target worker`, `--target training`.
# Each holds the packages that its role needs and no others; only worker and training hold weights.
ARG PYTHON_IMAGE=python:3.12.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /app
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY models/__init__.py models/jobs.py models/
COPY safety safety
COPY service service

FROM build AS build-api
RUN /app/bin/pip install -c constraints.txt .

FROM build AS build-safety
RUN /app/bin/pip install -c constraints.txt '.[safety]'

FROM build AS build-worker
# An additional index with torch builds for another CUDA version; the default index's build fits most drivers.
ARG TORCH_INDEX_URL=""
COPY models/networks models/networks
COPY models/checkpoints models/checkpoints
COPY models/engines models/engines
COPY models/emoji/viscpm-emoji models/emoji/viscpm-emoji
RUN /app/bin/pip install -c constraints.txt ${TORCH_INDEX_URL:+--extra-index-url "${TORCH_INDEX_URL}"} '.[worker,safety]'

FROM build AS build-training
ARG TORCH_INDEX_URL=""
COPY models models
RUN /app/bin/pip install -c constraints.txt ${TORCH_INDEX_URL:+--extra-index-url "${TORCH_INDEX_URL}"} '.[evaluate]'

FROM ${PYTHON_IMAGE} AS base
RUN useradd --system --uid 10001 --create-home viscpm
ENV PATH=/app/bin:$PATH PYTHONUNBUFFERED=1
COPY docker/healthcheck.py /healthcheck.py
WORKDIR /home/viscpm

FROM base AS api
COPY --from=build-api /app /app
USER 10001
ENV VISCPM_HOST=0.0.0.0 VISCPM_PORT=8000
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 \
  CMD ["python", "/healthcheck.py", "8000", "/health/live"]
CMD ["viscpm", "api"]

# The bundled screens; the release's checkers need the worker image: `viscpm-worker safety`.
FROM base AS safety
COPY --from=build-safety /app /app
USER 10001
ENV VISCPM_WORKER_METRICS_HOST=0.0.0.0 VISCPM_WORKER_METRICS_PORT=9100
EXPOSE 9100
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 \
  CMD ["python", "/healthcheck.py", "9100", "/health/ready"]
ENTRYPOINT ["viscpm", "worker"]
CMD ["safety"]

# `viscpm finetune` and `viscpm evaluate`
FROM base AS training
COPY --from=build-training /app /app
USER 10001
ENTRYPOINT ["viscpm"]
CMD ["finetune", "--help"]

FROM base AS worker
COPY --from=build-worker /app /app
USER 10001
ENV VISCPM_WORKER_METRICS_HOST=0.0.0.0 VISCPM_WORKER_METRICS_PORT=9100 \
    VISCPM_CHAT_CHECKPOINT=/models/chat VISCPM_PAINT_CHECKPOINT=/models/paint
EXPOSE 9100
# Loading 20 GB from a cold disk takes minutes
HEALTHCHECK --interval=5s --timeout=3s --start-period=600s --retries=3 \
  CMD ["python", "/healthcheck.py", "9100", "/health/ready"]
ENTRYPOINT ["viscpm", "worker"]
CMD ["chat"]
