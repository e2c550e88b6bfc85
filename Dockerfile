# Not built by the developers yet: there was no Docker where this was written.
#   docker build -t foveate .
#   docker run --rm --shm-size 8g -v /scans:/scans:ro -v /runs:/runs foveate pretrain --data /scans --out /runs/first --size small
# For GPUs build with --build-arg TORCH_INDEX=URL of PyTorch's index for your CUDA, and run with --gpus all.
FROM python:3.11-slim

ARG TORCH_INDEX=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip install ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} ".[embed,onnx]"

RUN useradd --create-home foveate
USER foveate
WORKDIR /home/foveate
ENTRYPOINT ["foveate"]
CMD ["--help"]
