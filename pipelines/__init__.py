"""What happens: the operators of the loop and the topology that joins them. Pure."""
