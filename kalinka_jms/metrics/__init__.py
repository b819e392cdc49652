"""What a process of Kalinka says of itself: metrics for Prometheus, health, readiness."""
