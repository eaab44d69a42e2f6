"""A version's way from shadow over canary to champion, as a plan says; each step is noted in the registry.

Open `walk` first: one step. `rollout_plan` is what the operator writes, `rollout_evidence` what the audit log shows,
`rollout_verdict` what follows from both, `rollout_state` where a version stands.
"""
