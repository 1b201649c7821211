"""Who runs it: the memory engine (the reference) and the embedded one."""
