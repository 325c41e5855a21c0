"""Control state that outlives a process: secrets, pins, approvals, sessions, policy history. Used by the supervisor."""
