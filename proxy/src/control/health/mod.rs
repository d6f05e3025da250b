//! Questions to endpoints (active health checks), on the control plane.
