"""What scripts/bench is made of; see there for what it does."""
