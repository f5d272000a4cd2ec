# Two targets: `cpu` (engine onnxruntime) and `gpu` (TensorRT for RTX cards, and onnxruntime with CUDA).
#   docker build --target cpu -t gdn .
#   docker run --rm -v "$PWD:/data" gdn denoise '/data/*.tif'
#   docker build --target cpu --build-arg EXTRAS=formats,video -t gdn .      (DM4 and other files, movies)
#   docker build --target gpu -t gdn:gpu .
#   docker run --rm --gpus all -v "$PWD:/data" -v gdn-cache:/home/gdn/.cache gdn:gpu denoise '/data/*.tif' --require-gpu
# Files are written as user 10001: add --user "$(id -u):$(id -g)" -e GDN_CACHE_DIR=/data/.gdn-cache to write them as yourself.

FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN python3 -m pip install --no-cache-dir build==1.6.1
RUN python3 -m build --wheel --outdir /dist . && cp constraints.txt /dist/

FROM python:3.11-slim-bookworm AS cpu
COPY --from=build /dist /dist
ARG EXTRAS=""
RUN python3 -m venv /opt/gdn
RUN /opt/gdn/bin/python -m pip install --no-cache-dir -c /dist/constraints.txt "$(ls /dist/*.whl)${EXTRAS:+[$EXTRAS]}"
RUN useradd --create-home --uid 10001 gdn && mkdir -p /data /home/gdn/.cache && chown gdn /data /home/gdn/.cache
ENV PATH=/opt/gdn/bin:$PATH
USER gdn
WORKDIR /data
HEALTHCHECK --interval=5m CMD ["gdn", "doctor"]
ENTRYPOINT ["gdn"]

FROM nvidia/cuda:13.0.1-cudnn-runtime-ubuntu24.04 AS gpu
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*
COPY --from=build /dist /dist
RUN python3 -m venv /opt/gdn
RUN /opt/gdn/bin/python -m pip install --no-cache-dir -c /dist/constraints.txt "$(ls /dist/*.whl)[tensorrt-rtx]"
# The two onnxruntime packages share one import name: the CPU one has to go first.
RUN /opt/gdn/bin/python -m pip uninstall -y onnxruntime && /opt/gdn/bin/python -m pip install --no-cache-dir onnxruntime-gpu==1.31.0
RUN useradd --create-home --uid 10001 gdn && mkdir -p /data /home/gdn/.cache && chown gdn /data /home/gdn/.cache
ENV PATH=/opt/gdn/bin:$PATH
USER gdn
WORKDIR /data
HEALTHCHECK --interval=5m CMD ["gdn", "doctor"]
ENTRYPOINT ["gdn"]
