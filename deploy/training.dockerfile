# What trains, gates, watches and rolls out: consilium with its extras, as the user that the service's image has. From the
# repository's root: docker build -f deploy/training.dockerfile -t consilium-training:local .
FROM python:3.11-slim AS wheel
COPY . /source
RUN pip wheel --no-deps --wheel-dir /wheels /source

FROM python:3.11-slim
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    pip install --no-cache-dir -c /constraints.txt --find-links /wheels 'consilium[train,serve,postgresql]'
RUN useradd --uid 1034 --no-create-home consilium && install -d -o 1034 -g 1034 /data
USER 1034
ENV HOME=/tmp MLFLOW_DISABLE_TELEMETRY=true
CMD ["python", "-m", "consilium.cli", "--help"]
