"""One kind of added knowledge per file: what the message says beyond the alert."""
