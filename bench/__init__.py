"""The measurements: one run, one table, everything side by side on a stack of its own.

stage.py        the stack: free ports, a state directory of its own, down at the end whatever happens
declared.py     the pipelines that are measured
    jobs.py         bounded jobs of them; `bare.sql` is what they are held against
read.py         Kafka's own consumer benchmark
throughput.py   bounded jobs, bare and Penstock in turn
feed.py watch.py latency.py   events at a steady pace, and how soon Druid returns them
replays.py      the section on replay:
    batch.py        its bounded job; `batch.sql` is what it is held against
    history.py      whole replays of a history
    beside.py       replays that run beside live rows
stats.py report.py facts.py   figures, the table, and what it was measured on
"""
