"""What contenders are called, in results and goals alike."""

PUB = "kalinka pub"
BARE_UP = "bare loop, broker → Kafka"
BYTES_READING = "bytes reader alone, reading"
STOMP_READING = "stomp.py alone, reading"
PRODUCING = "confluent-kafka alone, producing"

SUB = "kalinka sub"
SUB_ONE = "kalinka sub, devices on one broker"
BARE_DOWN = "bare loop, Kafka → broker"
CONSUMING = "confluent-kafka alone, consuming"
STOMP_SENDING = "stomp.py alone, sending"

CAMEL = "Camel"
"""All of Camel's names begin so."""
CAMEL_TRANSACTED = "Camel, transacted, 16 consumers"
CAMEL_FASTEST = "Camel, auto-ack, asynchronous"

RELAY = "the brokers and Kafka alone"
BRIDGED = "with Kalinka"

ONE_PROCESS = "one pub, two brokers"
TWO_PROCESSES = "two pubs, two brokers"
