"""Proof of steering by traffic: which flows came where, and where the policy says that they come. `netc verify --steering`."""
