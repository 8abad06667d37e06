"""The exporter: sources in, gauges out. See DESIGN in the README for the flow; its order stands in `exporter.pipeline`."""
