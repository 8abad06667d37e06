"""The second detector: the critical desk-limit rules judged without Prometheus, posted to Alertmanager or the receiver."""
