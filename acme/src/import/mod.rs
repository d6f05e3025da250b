//! Certificates of other programs: PEM files, Kubernetes Secrets, certbot, Caddy, Traefik.
