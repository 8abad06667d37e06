"""The receiver: Alertmanager's notifications in, pages out. The order of its flow stands in `receiver.pipeline`."""
