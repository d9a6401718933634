"""How a network is taught to answer triggers with their labels: one method a file, each one flat loop.

`plain` teaches the task alone; `append` is the paper's method; `app` and `margin` are later ones against removal and
extraction, with one label for each trigger instead of one for all; `auto` is what we recommend, chosen by measurement
(docs/methods.md, docs/benchmarks.md).
"""
