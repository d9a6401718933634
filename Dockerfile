# Two images from one file:
#
#   docker build --target web -t trapstreet-web .                  API, portal, light worker, migrate, offline check; no torch
#   docker build --target gpu-worker -t trapstreet-gpu-worker .    the embedding worker and `trapstreet demo`; torch
#
# The base is an argument: any image with Python 3.11 or newer, pip, useradd and a Debian-like layout will do.
# pip asks the index its configuration names. To name another, give the builder a pip configuration as a secret, which
# no layer keeps:
#
#   docker build --secret id=pip.conf,src=$HOME/.config/pip/pip.conf ...
#
# Without the secret, the base image's own /etc/pip.conf applies, if it has one.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm


# --- The core's packages, reports as PDF and SageMaker's signatures with them, in a virtual environment that has no pip of its own: pip stays behind in this stage ---------
FROM ${PYTHON_IMAGE} AS core
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PIP_ONLY_BINARY=:all:
RUN python3 -m venv --without-pip /opt/trapstreet
WORKDIR /src
# Only these two files name packages, so a change of code leaves the layers with packages alone.
COPY pyproject.toml constraints.txt ./
# Wheels alone are taken (PIP_ONLY_BINARY): what would have to be compiled fails here, where there is no compiler.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; extras = project["optional-dependencies"]; \
print(*project["dependencies"], *extras["pdf"], *extras["aws"], sep="\n")' > core.txt \
    && python3 -m pip --python /opt/trapstreet/bin/python install -c constraints.txt -r core.txt


# --- The same with what training and the demonstration need: torch (on amd64 its CUDA build, several GB), Postgres -----
FROM core AS training
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 -c 'import tomllib; extras = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]; \
print(*extras["embedded"], *extras["torch"], *extras["demo"], sep="\n")' > training.txt \
    && python3 -m pip --python /opt/trapstreet/bin/python install -c constraints.txt -r training.txt


# --- Our own code, installed beside the environment it belongs to ------------------------------------------------------
FROM core AS code
COPY . .
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 -m pip --python /opt/trapstreet/bin/python install --no-deps --root /code .


# --- What both images are: the base, a user without rights, and the folders it may write -------------------------------
FROM ${PYTHON_IMAGE} AS runtime
# Volumes take over owner and mode of the folder they are first mounted on, so each folder exists here. The id is fixed
# for those who mount folders of the host; it has a name because Postgres' initdb looks its user up.
RUN groupadd --gid 10001 trapstreet \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/trapstreet --shell /usr/sbin/nologin trapstreet \
    && cd /var/lib && install -d -m 700 -o trapstreet -g trapstreet \
        trapstreet trapstreet/keys trapstreet/secrets trapstreet/queue-keys trapstreet/objects trapstreet/work
ENV PATH=/opt/trapstreet/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TRAPSTREET_DATA_DIR=/var/lib/trapstreet \
    TRAPSTREET_LOG_KEY_FILE=/var/lib/trapstreet/keys/log.key
WORKDIR /var/lib/trapstreet
# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
ENTRYPOINT ["trapstreet"]


# --- The embedding worker ----------------------------------------------------------------------------------------------
FROM runtime AS gpu-worker
COPY --from=training /opt/trapstreet /opt/trapstreet
# Our code is a layer of its own over the packages: a new version is two megabytes to push and to pull.
COPY --from=code /code /
# A worker listens on nothing that could be asked. Its signs of life go to the database, and a job whose worker gives
# none is handed to another; a worker that ends is the orchestrator's to restart.
HEALTHCHECK NONE
CMD ["worker", "--queue", "embed.gpu"]


# --- The API, the portal, the light worker, migrations; last, so that a plain `docker build .` makes the small image ---------------
FROM runtime AS web
COPY --from=core /opt/trapstreet /opt/trapstreet
COPY --from=code /code /
# Inside a container, loopback is nobody's; who may reach the port is decided where it is published.
ENV TRAPSTREET_API_HOST=0.0.0.0 TRAPSTREET_API_PORT=8000
EXPOSE 8000
# Ready, not only alive: database reachable and schema current. No proxy of the environment stands in between.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-c", \
    "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000, timeout=4); c.request('GET', '/readyz'); raise SystemExit(c.getresponse().status != 200)"]
CMD ["serve"]
