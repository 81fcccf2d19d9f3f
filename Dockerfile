# One static binary in an image that holds nothing else: no shell, no package manager, no root.
#
#   docker build -t runbook .
#   docker run --rm runbook --help

FROM --platform=$BUILDPLATFORM golang:1.26.8-bookworm AS build
WORKDIR /src
# The image is built from the root module alone, whatever go.work joins, and with exactly this Go.
ENV GOWORK=off GOTOOLCHAIN=local CGO_ENABLED=0
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS TARGETARCH
RUN GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -ldflags="-s -w" -o /out/usr/local/bin/runbook ./cmd/runbook

# What a program expects of a system: an account, certificates, time zones, a place for temporary files, its storage.
RUN mkdir -p /out/etc/ssl/certs /out/etc/runbook /out/usr/share /out/tmp /out/var/lib/runbook \
 && echo 'runbook:x:65532:65532:runbook:/var/lib/runbook:/sbin/nologin' > /out/etc/passwd \
 && echo 'runbook:x:65532:' > /out/etc/group \
 && cp /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ \
 && cp /usr/local/go/lib/time/zoneinfo.zip /out/usr/share/zoneinfo.zip \
 && cp LICENSE /out/LICENSE \
 && chmod 1777 /out/tmp && chmod 0700 /out/var/lib/runbook && chown -R 65532:65532 /out/var/lib/runbook

FROM scratch
LABEL org.opencontainers.image.title="runbook" \
      org.opencontainers.image.description="Disaster recovery for applications on MongoDB, as durable Temporal workflows" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/ /
ENV ZONEINFO=/usr/share/zoneinfo.zip \
    HOME=/var/lib/runbook \
    RUNBOOK_CONFIG=/etc/runbook/runbook.yaml
USER 65532:65532
# Mount a volume at /var/lib/runbook: backups, what is known of foreign ones, and a folder for each incident.
EXPOSE 8088
ENTRYPOINT ["/usr/local/bin/runbook"]
CMD ["--help"]
