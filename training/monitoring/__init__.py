"""Watching a model in service: has the input, the mix of patients or the performance changed since it was made.

In go the answers that the service kept (`consilium.monitoring.MonitoredAnswer`) and the artifact's reference of studies
that the model had not learned from; out come tables, alarms, gauges and a page. Open `monitor` first: it calls the
others. `alarms` decides whether something has changed; it stands on `exchangeability` (p-values that are exact although
the reference is finite) and `betting` (tests that may be looked at daily). `drift`, `prior_shift`, `label_free` and
`outcome_performance` say what has changed and what it means.
"""
