"""What would another policy have earned: estimates from the log, with intervals that hold."""
