"""Who is there: heartbeats spread by rumour, and a phi-accrual detector that turns silence into DOWN."""
