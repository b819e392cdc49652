"""Kalinka: an exact bridge between MQTT devices on standalone ActiveMQ Classic brokers and Kafka."""

__version__ = "0.1.0"
