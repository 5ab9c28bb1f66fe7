# syntax=docker/dockerfile:1
# The image of the `semel` command: built on Debian's Rust image, run on plain Debian by a user who owns
# nothing but /var/lib/semel. May not live here: settings of a pipeline, which come from the environment
# (deploy/specs/*.toml say which), and secrets, which come as mounted files.
ARG RUST=1.95
FROM rust:${RUST}-slim-bookworm AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008 # versions are those of the base image's Debian release
RUN apt-get update && apt-get install -y --no-install-recommends \
        g++ make pkg-config libssl-dev zlib1g-dev && \
    rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The caches hold what was downloaded and compiled, so the binary is copied out of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked -p semel --bin semel && \
    install -m 755 target/release/semel /usr/local/bin/semel && strip /usr/local/bin/semel

FROM debian:bookworm-slim
# hadolint ignore=DL3008 # see above
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates libssl3 zlib1g && \
    rm -rf /var/lib/apt/lists/* && \
    useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin semel && \
    install -d -o semel -g semel -m 700 /var/lib/semel /keys
COPY --from=build /usr/local/bin/semel /usr/local/bin/semel
COPY deploy/specs /etc/semel
USER 10001:10001
WORKDIR /var/lib/semel
VOLUME /var/lib/semel
ENV SEMEL_DATA=/var/lib/semel \
    SEMEL_LOG_FORMAT=json \
    METRICS_LISTEN=0.0.0.0:9090
EXPOSE 9090
# SIGTERM: commit, hand over, leave; at most 20 s.
STOPSIGNAL SIGTERM
ENTRYPOINT ["semel"]
CMD ["run", "/etc/semel/attention-oracle.toml"]
