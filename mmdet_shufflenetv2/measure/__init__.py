"""Speed, memory and energy, measured so that they can be compared.

`benchmark` says what a measurement is and runs a list of them; `backbones`,
`detectors`, `guidelines`, `shuffle`, `ops` and `deploy` say what to measure.
"""
