"""How we choose: contexts to probabilities of actions, and learning from outcomes."""
