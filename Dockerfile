# All three services in one image: `docker build -t tributary .`, then run `tributary-source run --config FILE`.

ARG RUST=1.95.0
FROM rust:${RUST}-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bins \
        --package tributary-source --package tributary-sink-elastic --package tributary-sink-redshift \
    && mkdir /out \
    && cp target/release/tributary-source target/release/tributary-sink-elastic target/release/tributary-sink-redshift /out/

FROM debian:bookworm-slim
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin tributary
COPY --from=build /out/ /usr/local/bin/
COPY deploy/tributary-ready /usr/local/bin/
USER tributary
# The services stop in an orderly way at SIGTERM, which is Docker's own choice too.
STOPSIGNAL SIGTERM
CMD ["tributary-source", "--help"]
