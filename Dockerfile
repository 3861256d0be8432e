# The controller's image. `make image` lays out what is copied, so that building it takes nothing from any registry.
FROM scratch
# Webhooks of gates and a Prometheus may answer over https. A connection's own ca is for that connection alone.
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY sluice /sluice
# Nobody, as the chart runs it.
USER 65532:65532
ENTRYPOINT ["/sluice"]
