"""What a network costs, where its time goes, and what it sees.

A name becomes a network (`networks`, `random_weights`), whose operations are
recorded (`recording`) with what each costs (`cost`, `operations`) and put
together to `layers`. Then it is measured: `operation_times` and the machine's
best, the `receptive_field`, and `alternatives` to layers that stand in
`broken_guidelines` and to the network. A receptive field is followed through
operations (`following`), in maps by `fields`, elsewhere by `boxes` of pixels
(`box_calls`, `box_rules`, `box_windows`, `seen_memory`). `analysis` says in
which order, and holds what was found; `advice` judges it. `report`, `picture`,
`exports` and `trace` show it; `command` is the command line. `feature_reuse`
stands alone.
"""
