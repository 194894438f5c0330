"""Data for pipelines: a year of real flights, a seeded generator for any topic, and the producer that sends them."""
