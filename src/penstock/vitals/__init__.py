"""What an operator asks of a running pipeline: `penstock status NAME`.

gather.py (asks the services) -> model.py (frozen data, and what deserves attention) -> render.py
flink.py reads Flink's metrics.
"""
