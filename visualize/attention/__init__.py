"""Where a captioner looked."""
