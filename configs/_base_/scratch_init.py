"""Initial weights of a network that no pretrained ones replace."""

# Weights before batch norm start small, so that an update of a given size
# changes their direction more.
small_init = dict(
    type='Kaiming',
    layer='Conv2d',
    a=5**0.5,
    mode='fan_in',
    nonlinearity='leaky_relu',
)
scratch_init = [
    small_init,
    dict(type='Constant', layer='_BatchNorm', val=1, bias=0),
]
