"""The local lab: real ActiveMQ, Kafka and ZooKeeper servers as processes of this machine (extra `kalinka[lab]`)."""
