"""The local lab: real ActiveMQ, Kafka and ZooKeeper servers as local processes."""
