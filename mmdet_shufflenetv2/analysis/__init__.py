"""What a network costs, where its time goes, and what it sees.

A name becomes a network (`networks`, `random_weights`), whose operations are
recorded (`recording`) with what each costs (`cost`, `operations`) and put
together to `layers`. Then it is measured: `operation_times` and the machine's
best, the `receptive_field`, and `alternatives` to layers that stand in
`broken_guidelines` and to the network. What a level sees is followed through
all operations in `reach`. `analysis` says in which order, and holds what was
found; `advice` judges it. `report`, `picture`, `exports` and `trace` show it;
`command` is the command line. `feature_reuse` stands alone.
"""
