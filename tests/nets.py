"""Networks of a line."""

from torch import nn


class Net(nn.Module):
    """A function of itself, with these layers, and its input."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        return self.function(self, x)
