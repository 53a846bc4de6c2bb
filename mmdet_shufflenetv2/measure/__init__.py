"""Speed, memory and energy, measured so that they can be compared.

`benchmark` defines and runs measurements; `backbones`, `detectors`,
`guidelines`, `shuffle`, `ops` and `deploy` define what to measure.
"""
