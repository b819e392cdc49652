"""The STOMP link: frames from bytes, the channel below, the connection."""
