"""`kalinka sub`: Kafka → the broker that owns the device."""
