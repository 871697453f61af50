"""What a run is asked to do, validated and hashed, and where things are."""
