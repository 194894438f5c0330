"""The only I/O: Kafka, Flink, Druid and the registry, each a small class with an in-memory twin for tests."""
