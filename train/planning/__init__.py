"""The planner: what a configuration costs in time, memory and messages, before any process starts."""
