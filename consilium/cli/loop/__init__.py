"""`consilium demo --loop`: a year of a model in service, on phantoms, with simulated time.

Studies arrive, the champion answers, reads follow weeks later, the monitor looks every month; an alarm leads to a
training, gates, a rollout and a promotion. Open `story` first. `year` is what happens to the hospital, `arrivals` its
studies, `clinic` what the service would do, `candidates` what the ML engineer does, `year_report` and `show_year` what
is shown.
"""
