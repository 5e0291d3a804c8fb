"""Workers against the services' limits, simulated: `make simulate`.

The costs are measured (costs.py, measured.json), what they meet is how it is deployed (model.py),
and what comes of it is compared with runs that were measured, and then extrapolated (report.py).
"""
