# The gateway beside PACS, laboratory and record system: consilium with the extra `hospital`, without a model and without
# torch, as the user that the service's image has. From the repository's root:
# docker build -f deploy/gateway.dockerfile -t consilium-gateway:local .
FROM python:3.11-slim AS wheel
COPY . /source
RUN pip wheel --no-deps --wheel-dir /wheels /source

FROM python:3.11-slim
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    pip install --no-cache-dir -c /constraints.txt --find-links /wheels 'consilium[hospital,postgresql]'
RUN useradd --uid 1034 --no-create-home consilium && install -d -m 0700 -o 1034 -g 1034 /var/lib/consilium-gateway
USER 1034
ENV HOME=/tmp
CMD ["python", "-m", "consilium.cli", "gateway", "--help"]
