"""The Flink engine: the same dataflow on many machines, as PyFlink jobs on Kafka."""
