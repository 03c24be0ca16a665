"""Jobs: the journal that remembers them, the runner that drives them and the children that compute them."""
