"""What several tests use. No test is in here, and no test imports another."""
