"""`handeye doctor`: is this machine fit, and what should be used on it? One file a topic."""
