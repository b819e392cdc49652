"""What operators ask: where a message goes, where a device is, what waits, what is set up."""
