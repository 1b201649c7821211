"""What travels: the records, their Avro contract, the codec, the features and the errors."""
