"""3. The Flink job: DDL, statement set and submission."""
