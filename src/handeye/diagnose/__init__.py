"""`handeye diagnose`: why does a policy fail? Evidence from demonstrations and from the simulator, and what to mend."""
