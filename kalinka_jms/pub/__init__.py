"""`kalinka pub`: the brokers' queues → Kafka."""
