"""The embedded desk: three currency books on the European Central Bank's reference rates, and everything around them."""
