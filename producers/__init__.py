"""Who makes events: the visit tracker, cameras, recorded visitors."""
