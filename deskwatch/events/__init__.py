"""Kafka: how a cluster is reached, and the one module that talks to it."""
