"""The skorch net: one step, one epoch, and the callbacks that come with it."""
