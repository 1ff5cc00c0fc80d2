"""What the end-to-end tests are made of: a server under test, a leak ledger, load, and checkers that know the truth."""
