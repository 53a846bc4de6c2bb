"""Which pixels of the image everything in a forward pass depends on.

`fields` is the arithmetic of maps whose positions all see rectangles of one
size, `boxes` that of tensors whose elements each see their own, by the `rules`
and `windows` for a `calls.Call`; `memory` keeps what has been found, and
`following` runs it all beside a network.
"""
